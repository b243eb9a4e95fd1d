"""One label for each text or pair of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftstudy.tasks import Task, register

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor


@register("classification")
class Classification(Task):
    """Choose one of several classes by cross-entropy; scored by accuracy, F1 and Matthews correlation."""

    metric = "accuracy"
    auto_class = "AutoModelForSequenceClassification"

    def outputs(self, classes: int) -> int:
        return classes

    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy summed over examples, in nats; logits (examples, classes)."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.float(), targets.long(), reduction="sum")

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return the most probable class of each row, the first of equals; -1 where a row holds NaN."""
        import numpy as np

        return np.where(np.isnan(logits).any(axis=1), -1, logits.argmax(axis=1)).astype(np.int32)

    def score(self, predicted: np.ndarray, targets: np.ndarray, classes: int) -> dict[str, float]:
        """Return accuracy, macro F1, Matthews correlation and, for two classes, the F1 of class 1.

        Macro F1 averages over the classes that occur among targets or predictions; a class that is
        never predicted counts as 0. Matthews correlation is 0 when one class is always predicted.
        """
        from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

        scores = {
            "accuracy": accuracy_score(targets, predicted),
            "f1_macro": f1_score(targets, predicted, average="macro", zero_division=0),
            "mcc": matthews_corrcoef(targets, predicted),
        }
        if classes == 2:
            scores["f1"] = f1_score(targets, predicted, labels=[1], average="macro", zero_division=0)
        return {name: float(value) for name, value in scores.items()}

    def quality(self, predictions: pd.DataFrame) -> np.ndarray:
        """Return 1 for a right answer and 0 for a wrong one."""
        return (predictions["label"] == predictions["predicted"]).to_numpy(dtype=float)

    def collapsed(self, predicted: np.ndarray, targets: np.ndarray) -> bool:
        """Return whether several classes are asked for and one is answered, or some answer is missing (-1, NaN)."""
        import numpy as np

        if not (predicted >= 0).all():
            return True
        return len(np.unique(predicted)) < 2 <= len(np.unique(targets))
