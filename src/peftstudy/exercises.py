"""A few examples of every task, in the words of the tiny bodies: what methods are held against the contract on."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from peftstudy import bodies, tasks
from peftstudy.bodies import NAMES
from peftstudy.tokens import Tokens

LABELS: Mapping[str, tuple[str, ...]] = {
    "classification": NAMES,
    "label-generation": NAMES,
    "multiple-choice": ("0", "1", "2"),
    "tagging": NAMES,
    "token-classification": ("O", "B-w", "I-w"),
}
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "classification": {"text": "text", "text_pair": "other", "label": "class"},
    "extractive-qa": {"text": "other", "text_pair": "context", "label": "answers"},
    "generation": {"text": "text", "label": "targets"},
    "label-generation": {"text": "text", "label": "class", "target": "name"},
    "multiple-choice": {"text": "text", "choices": "choices", "label": "class"},
    "regression": {"text": "text", "text_pair": "other", "label": "value"},
    "tagging": {"text": "words", "label": "word_classes"},
    "token-classification": {"text": "words", "label": "word_classes"},
}
"""Task -> its examples' columns -> those of `_rows`."""
LENGTHS = (2, 1, 6, 3, 1, 5)
"""Words of the texts: padded in a batch, and some of one word."""
LONGEST, WRITTEN = 14, 5
"""Tokens of a text, and of a target, at most: some contexts are read in two windows."""


@cache
def tokens(task: str, backbone: str) -> Tokens:
    """Return the examples of a task as a body sees them."""
    options = {"target_length": WRITTEN} if tasks.create(task).writes else {}
    made = tasks.create(task).encode(examples(task), bodies.tokenizer(backbone), LONGEST, **options)
    return replace(made, about=made.about | {"labels": list(LABELS.get(task, ()))})


def examples(task: str) -> pd.DataFrame:
    """Return a row an example, with the columns that the task's own `encode` takes."""
    columns = COLUMNS[task]
    return _rows()[list(columns.values())].set_axis(list(columns), axis=1)


def _rows() -> pd.DataFrame:
    rng = np.random.default_rng(7)

    def text(words: int) -> str:
        return " ".join(f"w{number}" for number in rng.integers(20, bodies.WORDS, words))

    rows = pd.DataFrame({"text": [text(words) for words in LENGTHS]})
    rows["other"] = [text(words % 3 + 1) for words in LENGTHS]
    rows["words"] = rows["text"].str.split()
    rows["choices"] = [[text(words) for words in (2, 1, 3)] for _ in LENGTHS]
    before = [text(words) for words in LENGTHS]
    rows["context"] = [f"{first} {last}" for first, last in zip(before, rows["text"], strict=True)]
    rows["answers"] = [
        [{"text": words[0], "start": len(first) + 1}] for first, words in zip(before, rows["words"], strict=True)
    ]
    rows["targets"] = [[text(words)] for words in (3, 1, 2, 4, 4, 2)]
    rows["class"] = np.arange(len(rows), dtype=np.int32) % 3
    rows["name"] = [NAMES[number] for number in rows["class"]]
    rows["word_classes"] = [(np.arange(words) + words).astype(np.int32) % 3 for words in LENGTHS]
    rows["value"] = np.linspace(-1, 1, len(rows), dtype=np.float32)
    return rows
