"""Labels: from what a source's column holds to what a task learns."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from peftstudy.errors import StudyError, unknown
from peftstudy.specs import Dataset


def class_numbers(
    where: str, dataset: Dataset, rows: pd.DataFrame, dropped: Counter[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of the labels that count, with class numbers, and the labels in order."""
    refuse_unlabelled(where, dataset, rows)
    present = in_order(rows["label"])
    labels = list(dataset.labels) or present
    for label in labels:
        if label not in present:
            raise unknown(f"{where}.labels", "label", label, present[:50])
    if len(labels) < 2:
        raise StudyError(f"{where}: the column {dataset.label!r} holds one label only ({labels[0]!r}).")
    kept = rows["label"].isin(labels)
    dropped["other label"] = int((~kept).sum())
    numbers = rows.loc[kept, "label"].map({label: number for number, label in enumerate(labels)})
    return rows[kept].assign(label=numbers.astype(np.int32)), labels


def refuse_unlabelled(where: str, dataset: Dataset, rows: pd.DataFrame) -> None:
    """Raise StudyError when a row has no label, or a blank one."""
    without = rows["label"].isna() | (rows["label"].fillna("").str.strip() == "")
    refuse(where, rows[without], f"has no label (column {dataset.label!r})")


def in_order(labels: Sequence[str]) -> list[str]:
    """Return the distinct labels: whole numbers by value, then the others by spelling.

    >>> in_order(["b", "10", "9", "a", "b"])
    ['9', '10', 'a', 'b']
    """
    return sorted(set(labels), key=lambda label: (0, int(label), "") if _is_whole(label) else (1, 0, label))


def _is_whole(label: str) -> bool:
    return label.lstrip("-").isascii() and label.lstrip("-").isdigit()


def refuse(where: str, rows: pd.DataFrame, complaint: str) -> None:
    """Raise StudyError when there are such rows, naming the first and how many there are."""
    if len(rows):
        first = rows.iloc[0]
        more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
        raise StudyError(
            f"{where}: row {first['id']} (part {first['part']}) {complaint}{more}; mend or leave out the rows."
        )
