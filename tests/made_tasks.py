"""Invented examples of every task, of words that the tiny backbones of conftest know."""

from pathlib import Path

import numpy as np
import pandas as pd
from conftest import LIBRARIES, made_texts

from peftstudy.specs import Dataset

COLUMNS = {
    "classification": {"text": ("text",), "label": "label"},
    "generation": {"text": ("text",), "label": "target", "target_length": 8},
    "label-generation": {"text": ("text",), "label": "library", "target_length": 6},
    "extractive-qa": {"text": ("question", "context"), "label": "answers"},
    "multiple-choice": {"text": ("text",), "label": "label", "choices": ("choices",)},
    "regression": {"text": ("text", "other"), "label": "share"},
    "tagging": {"text": ("words",), "label": "tags"},
    "token-classification": {"text": ("words",), "label": "entities"},
}
"""Task -> which columns of `table` pose it."""


def table(count: int = 120, seed: int = 0) -> pd.DataFrame:
    """Return rows that pose every task: which class a text is of, where its own words stand, how many there are."""
    rows = made_texts(count, seed).drop(columns="id")
    rng = np.random.default_rng(seed)
    own = {word: name for name, words in LIBRARIES.items() for word in words.split()}
    rows["words"] = rows["text"].str.split()
    rows["tags"] = rows["words"].map(lambda words: ["own" if word in own else "common" for word in words])
    rows["entities"] = rows["words"].map(lambda words: _entities([own.get(word) for word in words]))
    rows["choices"] = [list(LIBRARIES) for _ in range(count)]
    rows["other"] = [str(rng.choice(list(own))) for _ in range(count)]
    rows["share"] = rows["words"].map(lambda words: 5 * sum(word in own for word in words) / len(words))
    rows["library"] = rows["label"].map(dict(enumerate(LIBRARIES)))
    rows["target"] = [" ".join(word for word in words if word in own) for words in rows["words"]]
    rows["question"] = "which " + rows["label"].map(dict(enumerate(LIBRARIES)))
    others = [*rows["text"][1:], "the end"]
    rows["context"] = [
        " ".join(pair[:: 1 - 2 * (i % 2)]) for i, pair in enumerate(zip(rows["text"], others, strict=True))
    ]
    rows["answers"] = [[_answer(*pair, own)] for pair in zip(rows["context"], rows["text"], strict=True)]
    return rows


def _entities(kinds: list[str | None]) -> list[str]:
    """Return labels that mark neighbouring words of one kind as one entity."""
    before = [None, *kinds]
    return [
        f"{'I' if kind == last else 'B'}-{kind}" if kind else "O" for last, kind in zip(before, kinds, strict=False)
    ]


def _answer(context: str, text: str, own: dict[str, str]) -> dict:
    """Return the first own word of a text, which is the beginning or the end of a context."""
    word = next(word for word in text.split() if word in own)
    return {"text": word, "answer_start": context.index(text) + f" {text} ".index(f" {word} ")}


def dataset(task: str, **changes) -> Dataset:
    return Dataset(**({"name": "made", "source": "s", "task": task, "max_length": 24} | COLUMNS[task] | changes))


def write_table(folder: Path, rows: pd.DataFrame) -> Path:
    """Write rows as a source's table."""
    from peftstudy import sources

    rows = rows.copy()
    rows.insert(0, "id", [f"r{number}" for number in range(len(rows))])
    sources.write_table(rows.assign(part="all"), folder / "table.parquet")
    return folder / "table.parquet"
