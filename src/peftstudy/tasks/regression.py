"""A number for each text or pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from peftstudy.tasks import Reading, register

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from torch import Tensor

    from peftstudy.tokens import Tokens

FLAT = 1e-3
"""Predictions whose range is below this share of the labels' spread differ by rounding: they are one answer."""
STRATA = 10
"""Examples are drawn and cut so that each tenth of the scores has its share."""


@register("regression")
class Regression(Reading):
    """Estimate a number by squared error; scored by Pearson's and Spearman's correlation, as STS-B is."""

    metric = "pearson"
    metrics = ("pearson", "spearman", "rmse")
    beside = MappingProxyType({"rmse": "smaller is better"})
    baselines = ("mean", "tfidf-ridge")
    auto_class = "AutoModelForSequenceClassification"

    def label(self, where, dataset, rows, dropped):
        """Return the rows with labels as float32, and their tenths as strata."""
        import numpy as np
        import pandas as pd

        from peftstudy.labels import refuse, refuse_unlabelled

        refuse_unlabelled(where, dataset, rows)
        numbers = pd.to_numeric(rows["label"], errors="coerce").astype(np.float32)
        amiss = rows[~np.isfinite(numbers)]
        said = next(iter(amiss["label"]), "")
        refuse(where, amiss, f"has the label {said!r}, which is no number (column {dataset.label!r})")
        stratum = (numbers.rank(method="first") - 1) * STRATA // len(rows)
        return rows.assign(label=numbers, stratum=stratum.astype(np.int32)), []

    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the squared error summed over examples; logits (examples, 1)."""
        return ((logits.float().squeeze(1) - targets.float()) ** 2).sum()

    def predict(self, logits: np.ndarray, tokens: Tokens, index: np.ndarray) -> pa.Table:
        import pyarrow as pa

        return pa.table({
            "label": pa.array(tokens.labels[index], pa.float32()),
            "predicted": pa.array(logits[:, 0], pa.float32()),
        })  # fmt: skip

    def collapsed(self, predicted: Sequence[float], targets: Sequence[float]) -> bool:
        """Return whether all predictions are alike, but for rounding, and the targets are not."""
        import numpy as np

        predicted = np.asarray(predicted, float)
        told = predicted[~np.isnan(predicted)]
        if 0 < len(told) < len(predicted):
            return False
        return bool(np.ptp(targets) > 0 and (not len(told) or np.ptp(told) <= FLAT * np.std(targets)))

    def score(self, predicted: Sequence[float], targets: Sequence[float], labels: Sequence[str]) -> dict[str, float]:
        """Return both correlations and the root mean squared error.

        A correlation is 0 where targets do not differ, or predictions by no more than rounding, or a prediction is not
        finite: it is not defined there, and nothing was learned.
        """
        import numpy as np
        from scipy import stats

        predicted, targets = np.asarray(predicted, float), np.asarray(targets, float)
        known = np.isfinite(predicted).all() and np.ptp(targets) > 0 and not self.collapsed(predicted, targets)
        return {
            "pearson": float(stats.pearsonr(predicted, targets).statistic) if known else 0.0,
            "spearman": float(stats.spearmanr(predicted, targets).statistic) if known else 0.0,
            "rmse": float(np.sqrt(np.mean((predicted - targets) ** 2))),
        }
