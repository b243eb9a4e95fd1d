"""Which of several choices fits a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from peftstudy.tasks import Reading, register

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor

    from peftstudy.tokens import Tokens


@register("multiple-choice")
class MultipleChoice(Reading):
    """Score each choice by one head, and choose by cross-entropy over their scores; scored by accuracy.

    A choice is read behind the text, as its second (Radford et al., 2018, section 3.3). Where the choices
    fill a blank, what stands behind it goes with the choice, as in WinoGrande (Sakaguchi et al., 2020).
    """

    metric = "accuracy"
    metrics = ("accuracy",)
    baselines = ("majority", "choices-alone")
    # The class for multiple choice has the same head, and takes no packed batches.
    auto_class = "AutoModelForSequenceClassification"
    texts = (1,)
    keys = frozenset({"choices", "blank", "labels"})

    def label(self, where, dataset, rows, dropped):
        """Return the rows with the number of the right choice, from 0; `labels` names the choices in order."""
        import numpy as np

        from peftstudy.labels import refuse, refuse_unlabelled

        refuse_unlabelled(where, dataset, rows)
        bad = [not all(choice and choice.strip() for choice in choices or [""]) for choices in rows["choices"]]
        refuse(where, rows[bad], f"has an empty choice ({', '.join(map(repr, dataset.choices))})")
        sizes = rows["choices"].map(len)
        refuse(where, rows[sizes == 1], "has one choice only")
        usual = int(sizes.mode()[0])
        odd = rows[sizes != usual]
        if len(odd):
            refuse(where, odd, f"has {len(odd['choices'].iloc[0])} choices where others have {usual}")
        labels = list(dataset.labels) or [str(number) for number in range(usual)]
        beyond = rows[~rows["label"].isin(labels[:usual])]
        if len(beyond):
            known = f"{', '.join(labels[:usual])} (column {dataset.label!r})"
            refuse(where, beyond, f"has the label {beyond['label'].iloc[0]!r} where the choices are {known}")
        if dataset.blank:
            without = rows["text"].map(lambda text: text is not None and dataset.blank not in text)
            refuse(where, rows[without], f"has no blank {dataset.blank!r} (column {dataset.text[0]!r})")
            rows = rows.assign(blank=dataset.blank)
        numbers = rows["label"].map({label: number for number, label in enumerate(labels)})
        return rows.assign(label=numbers.astype(np.int32)), labels[:usual]

    def encode(self, examples, tokenizer, max_length):
        """Return a text for each choice, one example's behind each other."""
        import numpy as np
        import pandas as pd

        from peftstudy import tokens

        pairs = pd.DataFrame(list(pairs_of(examples)), columns=["text", "text_pair"])
        made = tokens.encode(pairs.assign(label=0), tokenizer, max_length)
        begins = np.concatenate([[0], np.cumsum(examples["choices"].map(len))])
        labels = examples["label"].to_numpy(np.int32)
        about = made.about | {"examples": len(examples)}
        return replace(made, labels=labels, about=about, arrays={"texts": begins})

    def loss_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy summed over examples, in nats; logits (examples * choices, 1)."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.float().view(len(targets), -1), targets.long(), reduction="sum")

    def predict(self, logits: np.ndarray, tokens: Tokens, index: np.ndarray) -> pa.Table:
        """Return the choice with the highest score, the first of equals; -1 where a score is NaN."""
        from peftstudy.tasks.classification import answers

        return answers(logits.reshape(len(index), -1), tokens.labels[index])

    def quality(self, predictions: pd.DataFrame) -> np.ndarray:
        from peftstudy.tasks.classification import right

        return right(predictions)

    def score(self, predicted: Sequence[int], targets: Sequence[int], labels: Sequence[str]) -> dict[str, float]:
        from sklearn.metrics import accuracy_score

        return {"accuracy": float(accuracy_score(targets, predicted))}


def pairs_of(examples: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield the two texts of each choice."""
    blanks = examples["blank"] if "blank" in examples else [None] * len(examples)
    for text, choices, blank in zip(examples["text"], examples["choices"], blanks, strict=True):
        before, _, behind = text.partition(blank) if blank else (text, "", "")
        for choice in choices:
            yield before.strip(), f"{choice}{behind}"
