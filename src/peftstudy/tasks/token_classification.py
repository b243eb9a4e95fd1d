"""A label for each word of a text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from peftstudy.tasks import Reading, one_answer, register

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from torch import Tensor

    from peftstudy.tokens import Tokens

UNREAD = -1
"""The answer to a word of which the model reads nothing: it was cut off, or has no letters that it knows."""


class WordLabels(Reading):
    """Label words: the first word piece of each carries its label (Devlin et al., 2019, section 5.3)."""

    auto_class = "AutoModelForTokenClassification"
    classes = True
    texts = (1,)
    words = True
    plain_label = False
    reads_first = False

    def outputs(self, classes: int) -> int:
        return classes

    def label(self, where, dataset, rows, dropped):
        """Return the rows with a class number for each word; those with rarer labels and those without are strata."""
        import numpy as np

        from peftstudy.errors import StudyError
        from peftstudy.labels import in_order, refuse

        named = rows["label"].map(_names)
        refuse(where, rows[named.isna()], f"has no labels (column {dataset.label!r})")
        sizes = rows["text"].map(lambda words: len(words or ()))
        wrong = sizes != named.map(len)
        if wrong.any():
            found = f"has {sizes[wrong].iloc[0]} words and {len(named[wrong].iloc[0])} labels"
            refuse(where, rows[wrong], f"{found} (columns {dataset.text[0]!r}, {dataset.label!r})")
        every = [label for labels in named for label in labels]
        refuse(where, rows[named.map(lambda labels: None in labels)], f"has a word without a label ({dataset.label!r})")
        labels = in_order(every)
        if len(labels) < 2:
            raise StudyError(f"{where}: the column {dataset.label!r} holds one label only ({labels[0]!r}).")
        self.refuse_labels(where, labels)
        numbers = {label: number for number, label in enumerate(labels)}
        usual = Counter(every).most_common(1)[0][0]
        stratum = named.map(lambda labels: set(labels) != {usual}).astype(np.int32)
        coded = named.map(lambda labels: np.array([numbers[label] for label in labels], np.int32))
        return rows.assign(label=coded, stratum=stratum), labels

    def refuse_labels(self, where: str, labels: Sequence[str]) -> None:
        """Raise StudyError for labels that the task does not take."""

    def encode(self, examples, tokenizer, max_length):
        """Return the texts, their words joined by blanks, with the places of the words' first pieces.

        labels: of all words one after the other. Arrays: `words`, where each example's begin, shape
        (examples + 1,); `opens`, the number of the word that each token opens, or -1, shape (tokens,).
        """
        import numpy as np

        from peftstudy import tokens

        sizes = examples["text"].map(len).to_numpy()
        begins = np.concatenate([[0], np.cumsum(sizes)])
        opens: list[np.ndarray] = []

        def noted():
            texts = examples["text"].map(" ".join).tolist()
            found = tokens.encodings(texts, tokenizer, max_length, offsets=True)
            for words, begin, encoding in zip(examples["text"], begins, found, strict=False):
                first = first_pieces(words, encoding.offsets)
                opens.append(np.where(first < 0, first, begin + first))
                yield encoding

        labels = np.concatenate(examples["label"].tolist()).astype(np.int32)
        made = tokens.gather(noted(), tokenizer, max_length, labels)
        return replace(made, arrays={"words": begins, "opens": np.concatenate(opens).astype(np.int32)})

    def read(self, tokens: Tokens, texts: np.ndarray) -> np.ndarray:
        return self._opened(tokens, texts) >= 0

    def targets(self, tokens: Tokens, index: np.ndarray) -> np.ndarray:
        words = self._opened(tokens, index)
        return tokens.labels[words[words >= 0]]

    def items(self, tokens: Tokens, index: np.ndarray) -> int:
        return max(1, int((self._opened(tokens, index) >= 0).sum()))

    def _opened(self, tokens: Tokens, index: np.ndarray) -> np.ndarray:
        """Return the number of the word that each token of some examples opens, or -1."""
        from peftstudy.tokens import joined

        return tokens.arrays["opens"][joined(tokens.offsets, index)]

    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy summed over words, in nats; logits (words, classes)."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.float(), targets.long(), reduction="sum")

    def predict(self, logits: np.ndarray, tokens: Tokens, index: np.ndarray) -> pa.Table:
        """Return the most probable class of each word, as lists; UNREAD where no piece of it was read."""
        import numpy as np
        import pyarrow as pa

        from peftstudy.tasks.classification import most_probable

        words = self._opened(tokens, index)
        answers = np.full(len(tokens.labels), UNREAD, np.int32)
        answers[words[words >= 0]] = most_probable(logits)
        places = [slice(*tokens.arrays["words"][example : example + 2]) for example in index]
        kind = pa.list_(pa.int32())
        return pa.table({
            "label": pa.array([tokens.labels[place] for place in places], kind),
            "predicted": pa.array([answers[place] for place in places], kind),
        })  # fmt: skip

    def collapsed(self, predicted: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> bool:
        """Return whether several labels are asked for and one is given."""
        read = [number for numbers in predicted for number in numbers if number != UNREAD]
        return not read or one_answer(read, [number for numbers in targets for number in numbers])


def first_pieces(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> Any:
    """Return which word each token opens, or -1, shape (tokens,).

    offsets: the characters that each token stands for in the words joined by blanks; (0, 0) for special
    tokens. By characters, for byte-level tokenizers tell a word by the blank before it, and some words hold blanks.

    >>> first_pieces(["red", "stone"], [(0, 0), (0, 3), (4, 6), (6, 9), (0, 0)]).tolist()
    [-1, 0, 1, -1, -1]
    """
    import numpy as np

    start, end = np.array(offsets).T
    begins = np.concatenate([[0], np.cumsum([len(word) + 1 for word in words])])
    # A token may begin with the blank before its word, so its last character decides.
    word = np.where(end > start, np.searchsorted(begins, end - 1, side="right") - 1, -1)
    _, first = np.unique(word, return_index=True)
    opens = np.full(len(word), -1)
    opens[first] = word[first]
    return opens


@register("token-classification")
class TokenClassification(WordLabels):
    """Find named entities by B-, I- and O labels of words; scored by whole entities, as CoNLL does.

    An entity counts when its type and both its ends are right (Tjong Kim Sang and De Meulder, 2003).
    """

    metric = "f1"
    metrics = ("f1", "precision", "recall", "accuracy")
    baselines = ("majority-word", "usual-label")

    def refuse_labels(self, where: str, labels: Sequence[str]) -> None:
        from peftstudy.errors import StudyError

        for label in labels:
            if not re.fullmatch(r"O|[BI]-.+", label):
                raise StudyError(
                    f"{where}: the label {label!r} is neither O nor begins with B- or I-; "
                    "the task of labels that mark no entities is tagging."
                )

    def score(
        self, predicted: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], labels: Sequence[str]
    ) -> dict[str, float]:
        """Return precision, recall and F1 of entities, over all types together, and the accuracy of words.

        By seqeval, in the mode that agrees with conlleval. A word that was not read counts as outside entities.
        """
        from seqeval import metrics

        given, asked = ([[labels[n] if n >= 0 else "O" for n in row] for row in rows] for rows in (predicted, targets))
        return {
            "precision": float(metrics.precision_score(asked, given, zero_division=0)),
            "recall": float(metrics.recall_score(asked, given, zero_division=0)),
            "f1": float(metrics.f1_score(asked, given, zero_division=0)),
            "accuracy": float(metrics.accuracy_score(asked, given)),
        }


def _names(label: Any) -> Any:
    """Return the labels of a text's words, which may be one text or numbers, as names."""
    if isinstance(label, str):
        return label.split()
    return label if label is None else [one if one is None else str(one) for one in label]


@register("tagging")
class Tagging(WordLabels):
    """Tag every word, with its part of speech for one; scored by accuracy over words."""

    metric = "accuracy"
    metrics = ("accuracy", "f1_macro")
    baselines = ("majority-word", "usual-label")

    def score(
        self, predicted: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], labels: Sequence[str]
    ) -> dict[str, float]:
        """Return accuracy over words and macro F1 over the tags that occur; a word that was not read is wrong."""
        from sklearn.metrics import accuracy_score

        from peftstudy.tasks.classification import macro_f1

        given, asked = ([n for row in rows for n in row] for rows in (predicted, targets))
        return {"accuracy": float(accuracy_score(asked, given)), "f1_macro": macro_f1(given, asked)}
