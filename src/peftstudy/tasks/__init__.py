"""Tasks: what a dataset asks of a model. One small file each; the training loop knows none by name.

An example is one text or several (the choices, the windows of a long context), each a text of its own
for the model. A task says how examples become texts, how answers come about, and how these are scored: one
that reads (Reading) has its answers from a head's logits, one that writes (generation.Writing) lets the model
write them. Listing tasks imports neither torch nor scikit-learn: a task imports them where it uses them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from peftstudy.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor

    from peftstudy.engine import Engine
    from peftstudy.specs import Dataset
    from peftstudy.tokens import Tokens


class Task(ABC):
    """A kind of problem: its examples, the model it needs, its loss, its answers and its scores."""

    name: ClassVar[str]
    metric: ClassVar[str]
    """The main metric, one of `metrics`; larger is better. A dataset may name another (see `create`)."""
    metrics: ClassVar[tuple[str, ...]]
    """Every metric that `score` may return."""
    beside: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Metrics that cannot be the main one, and why: runs are chosen, and methods compared, by scores that end at 1."""
    baselines: ClassVar[tuple[str, ...]]
    """What it is compared with that needs no language model: names of peftstudy.baselines."""
    auto_class: ClassVar[str]
    """The transformers Auto class whose models end in this task's head."""
    texts: ClassVar[tuple[int, ...]] = (1, 2)
    """How many columns of text a dataset may name."""
    classes: ClassVar[bool] = False
    """Whether its labels are classes, which have names."""
    keys: ClassVar[frozenset[str]] = frozenset()
    """The keys of a dataset that mean something to it, beside those of all tasks."""
    wanting: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Metrics that want data of their own, and what is said where these are missing."""
    comparable: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """What has a signature, and which values from elsewhere stand for the same, in words."""
    words: ClassVar[bool] = False
    """Whether the text's column holds lists of words."""
    plain_label: ClassVar[bool] = True
    """Whether a label is one value; if not, it may be a list or a structure."""
    reads_first: ClassVar[bool] = True
    """Whether the head reads the first token of each text alone; if not, it reads those that `read` marks."""

    writes: ClassVar[bool] = False
    """Whether the model writes a text as its answer; then there is no head but what the backbone writes with."""

    @abstractmethod
    def label(
        self, where: str, dataset: Dataset, rows: pd.DataFrame, dropped: Counter[str]
    ) -> tuple[pd.DataFrame, list[str]]:
        """Return the rows that count with labels as the task wants them, and the names of the classes, if it has any.

        rows: id, text, text_pair, choices and label as the dataset names them, and part. A column `stratum`
        (whole numbers) may be added, by which examples are drawn and cut; without, they are by label.
        where: opens the sentence of a StudyError. dropped: counts rows left out, by reason.
        """

    def answers(self, examples: pd.DataFrame) -> list:
        """Return the labels of examples in the form that `score` takes them."""
        return examples["label"].tolist()

    def encode(self, examples: pd.DataFrame, tokenizer: Any, max_length: int) -> Tokens:
        """Return the examples as the model sees them."""
        from peftstudy import tokens

        return tokens.encode(examples, tokenizer, max_length)

    @abstractmethod
    def logits(self, engine: Engine, tokens: Tokens, index: np.ndarray) -> Tensor:
        """Return what the model says of the examples numbered `index`, sorted by size: what the loss is of."""

    def targets(self, tokens: Tokens, index: np.ndarray) -> np.ndarray:
        """Return what the examples numbered `index` should give, in the order of the logits."""
        return tokens.labels[index]

    def items(self, tokens: Tokens, index: np.ndarray) -> int:
        """Return over how many things the loss of these examples is a mean: examples, words, windows."""
        return len(index)

    @abstractmethod
    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss summed over items, a float32 scalar.

        logits: as `logits` gives them.
        """

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of an item, a float32 scalar."""
        return self.loss_sum(logits, targets) / len(targets)

    @abstractmethod
    def answer(self, engine: Engine, logits: Tensor, tokens: Tokens, index: np.ndarray) -> pa.Table:
        """Return the answers to the examples numbered `index`, a row each: label, predicted, and what else is kept.

        logits: of these examples, which are known already.
        """

    @abstractmethod
    def score(self, predicted: Sequence, targets: Sequence, labels: Sequence[str]) -> dict[str, float]:
        """Return every metric by name, the main one among them.

        predicted, targets: answers and labels of the examples, in the form that `answer` gives them.
        labels: the names of the classes.
        """

    def signatures(self, targets: Sequence) -> dict[str, str]:
        """Return how metrics are computed, by their library's own signature, where they can be in several ways.

        targets: the labels that were scored.
        """
        return {}

    def options(self, dataset: Dataset) -> dict[str, Any]:
        """Return what the dataset sets that `encode` wants to know."""
        return {}

    def quality(self, predictions: pd.DataFrame) -> np.ndarray | None:
        """Return how good each answer is, larger is better, where the task's own metric is the mean of that; else None.

        predictions: a row a test example, as `answer` gave them.
        """
        return None

    def collapsed(self, predicted: Sequence, targets: Sequence) -> bool:
        """Return whether several answers are asked for and all examples are given one and the same."""
        return one_answer(predicted, targets)


class Reading(Task):
    """A task whose answers are read off the logits of a head."""

    def outputs(self, classes: int) -> int:
        """Return the width of the head for a dataset with that many classes."""
        return 1

    def read(self, tokens: Tokens, texts: np.ndarray) -> np.ndarray | None:
        """Return which tokens of these texts the head reads, shape (tokens,); None for the first of each."""
        return None

    def logits(self, engine: Engine, tokens: Tokens, index: np.ndarray) -> Tensor:
        """Return what the head says, shape (texts, outputs), or (tokens read, outputs)."""
        texts = tokens.texts(index)
        return engine.logits(tokens, texts, self.read(tokens, texts))

    @abstractmethod
    def predict(self, logits: np.ndarray, tokens: Tokens, index: np.ndarray) -> pa.Table:
        """Return the answers to the examples numbered `index`, a row each: label, predicted, and what else is kept."""

    def answer(self, engine: Engine, logits: Tensor, tokens: Tokens, index: np.ndarray) -> pa.Table:
        return self.predict(logits.cpu().numpy(), tokens, index)


def one_answer(predicted: Sequence, targets: Sequence) -> bool:
    """Return whether several answers are asked for and one is given.

    An answer that is missing (-1, NaN, an empty text) is one among others.

    >>> one_answer([1, 1], [0, 1]), one_answer([1, -1], [0, 1]), one_answer([-1, -1], [0, 1])
    (True, False, True)
    """
    given = {None if answer != answer else answer for answer in predicted}  # no two NaN are equal
    return len(given) < 2 <= len(set(targets))


_registry: Registry[Task] = Registry(__name__, "task")
register = _registry.register
registered = _registry.all


def create(name: str, where: str = "task", metric: str | None = None) -> Task:
    """Return the task of that name; `where` opens the StudyError when there is none.

    metric: the main one, in place of the task's own.
    """
    task = _registry.find(name, where)()
    if metric:
        task.metric = metric
    return task
