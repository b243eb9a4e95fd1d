"""Tasks: what a dataset asks of a model. One small file each; the training loop knows none by name.

Listing them imports neither torch nor scikit-learn: a task imports them where it uses them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from peftstudy.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor


class Task(ABC):
    """A kind of problem: which model head it needs, its loss, its predictions and its scores."""

    name: ClassVar[str]
    metric: ClassVar[str]
    """The main metric, one of the keys that `score` returns; larger is better."""
    auto_class: ClassVar[str]
    """The transformers Auto class whose models end in this task's head."""

    @abstractmethod
    def outputs(self, classes: int) -> int:
        """Return the width of the head for a dataset with that many classes."""

    @abstractmethod
    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss summed over examples, a float32 scalar."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of an example, a float32 scalar."""
        return self.loss_sum(logits, targets) / len(targets)

    @abstractmethod
    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return what the model answers, shape (examples,)."""

    @abstractmethod
    def score(self, predicted: np.ndarray, targets: np.ndarray, classes: int) -> dict[str, float]:
        """Return every metric by name, the main one among them."""

    def quality(self, predictions: pd.DataFrame) -> np.ndarray | None:
        """Return how good each answer is, larger is better, where the main metric is the mean of that; else None.

        predictions: a row a test example, as the evaluation wrote them.
        """
        return None

    @abstractmethod
    def collapsed(self, predicted: np.ndarray, targets: np.ndarray) -> bool:
        """Return whether the model gives one answer to everything, or none."""


_registry: Registry[Task] = Registry(__name__, "task")
register = _registry.register
registered = _registry.all


def create(name: str, where: str = "task") -> Task:
    """Return the task of that name; `where` opens the StudyError when there is none."""
    return _registry.find(name, where)()
