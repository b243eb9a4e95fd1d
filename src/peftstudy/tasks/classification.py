"""One label for each text or pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from peftstudy.tasks import Reading, register

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor

    from peftstudy.tokens import Tokens


@register("classification")
class Classification(Reading):
    """Choose one of several classes by cross-entropy; scored by accuracy, F1 and Matthews correlation."""

    metric = "accuracy"
    metrics = ("accuracy", "f1_macro", "f1", "mcc")
    baselines = ("majority", "tfidf-logistic-regression")
    auto_class = "AutoModelForSequenceClassification"
    classes = True
    keys = frozenset({"labels", "names", "balanced"})

    def outputs(self, classes: int) -> int:
        return classes

    def label(self, where, dataset, rows, dropped):
        from peftstudy.labels import class_numbers

        return class_numbers(where, dataset, rows, dropped)

    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy summed over examples, in nats; logits (examples, classes)."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.float(), targets.long(), reduction="sum")

    def predict(self, logits: np.ndarray, tokens: Tokens, index: np.ndarray) -> pa.Table:
        return answers(logits, tokens.labels[index])

    def score(self, predicted: Sequence[int], targets: Sequence[int], labels: Sequence[str]) -> dict[str, float]:
        """Return accuracy, macro F1, Matthews correlation and, for two classes, the F1 of class 1.

        Matthews correlation is 0 when one class is always predicted. An answer that is no class (-1) is wrong.
        """
        from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

        scores = {
            "accuracy": accuracy_score(targets, predicted),
            "f1_macro": macro_f1(predicted, targets),
            "mcc": matthews_corrcoef(targets, predicted),
        }
        if len(labels) == 2:
            scores["f1"] = f1_score(targets, predicted, labels=[1], average="macro", zero_division=0)
        return {name: float(value) for name, value in scores.items()}

    def quality(self, predictions: pd.DataFrame) -> np.ndarray:
        return right(predictions)


def macro_f1(predicted: Sequence[int], targets: Sequence[int]) -> float:
    """Return the mean F1 of the classes that occur among targets or predictions; -1 is no class.

    A class that is never predicted counts as 0.

    >>> macro_f1([0, 1, -1], [0, 1, 1])
    0.8333333333333333
    """
    from sklearn.metrics import f1_score

    occurring = sorted({*targets, *predicted} - {-1})
    return float(f1_score(targets, predicted, labels=occurring, average="macro", zero_division=0))


def right(predictions: pd.DataFrame) -> np.ndarray:
    """Return 1 for a right answer and 0 for a wrong one."""
    return (predictions["label"] == predictions["predicted"]).to_numpy(dtype=float)


def answers(logits: np.ndarray, labels: np.ndarray) -> pa.Table:
    """Return label, most probable place and logits, a row an example."""
    import pyarrow as pa

    return pa.table({
        "label": pa.array(labels, pa.int32()),
        "predicted": pa.array(most_probable(logits), pa.int32()),
        "logits": pa.array(list(logits), pa.list_(pa.float32())),
    })  # fmt: skip


def most_probable(logits: np.ndarray) -> np.ndarray:
    """Return the place of each row's largest value, the first of equals; -1 where a row holds NaN."""
    import numpy as np

    return np.where(np.isnan(logits).any(axis=1), -1, logits.argmax(axis=1)).astype(np.int32)
