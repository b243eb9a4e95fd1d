"""Examples: the rows of a source that pose a dataset's task, with text, class number and official part."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from peftstudy.errors import StudyError, unknown
from peftstudy.files import sha256, write_json
from peftstudy.sources import write_table
from peftstudy.specs import Dataset
from peftstudy.splits import stratified_order


def read_examples(dataset: Dataset, table: Path, data_seed: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a dataset's examples in the order of the source's table, and a report.

    Columns: id, text, text_pair (pairs only), label (int32, a place in the report's `labels`), part.
    With `examples`, so many rows are drawn by label; a larger number keeps the rows of a smaller.
    Raises StudyError for an unknown column, part or label, a row without label or with an empty
    text, fewer than two labels, and more examples than there are.
    """
    where = f"datasets.{dataset.name}"
    rows = _columns(where, dataset, table)
    dropped: Counter[str] = Counter()
    rows = _of_parts(where, dataset, rows, dropped)
    rows, labels = _of_labels(where, dataset, rows, dropped)
    for column in ("text", "text_pair"):
        if column in rows:
            empty = rows[column].isna() | (rows[column].fillna("").str.strip() == "")
            _refuse(where, rows[empty], f"has an empty text (column {dataset.text[column == 'text_pair']!r})")
    if dataset.examples is not None:
        if dataset.examples > len(rows):
            raise StudyError(f"{where}.examples: {dataset.examples} asked for, but there are only {len(rows)}.")
        order = stratified_order(rows["label"].to_numpy(), np.random.default_rng([data_seed, 0]))
        if dataset.balanced:
            order = _balanced(where, order, rows["label"].to_numpy(), labels, dataset.examples)
        dropped["not drawn"] = len(rows) - dataset.examples
        rows = rows.iloc[np.sort(order[: dataset.examples])]
    rows = rows.reset_index(drop=True)
    rows.attrs["labels"] = labels
    counts = np.bincount(rows["label"], minlength=len(labels))
    report = {
        "dataset": dataset.name, "labels": labels, "examples": len(rows), "data_seed": data_seed,
        "counts": {label: int(count) for label, count in zip(labels, counts, strict=True)},
        "dropped": dict(sorted(dropped.items())), "source_sha256": sha256(table),
    }  # fmt: skip
    return rows, report


def _balanced(where: str, order: np.ndarray, classes: np.ndarray, labels: list[str], examples: int) -> np.ndarray:
    """Return the first of each label in `order`, as many of one as of another."""
    quota, rest = divmod(examples, len(labels))
    if rest:
        raise StudyError(
            f"{where}.examples: {examples} cannot be balanced over {len(labels)} labels; ask for a multiple."
        )
    counts = np.bincount(classes, minlength=len(labels))
    if counts.min() < quota:
        rare = labels[counts.argmin()]
        raise StudyError(
            f"{where}.examples: {examples} balanced are {quota} of each label; {rare!r} has {counts.min()}."
        )
    return np.concatenate([order[classes[order] == label][:quota] for label in range(len(labels))])


def write_examples(examples: pd.DataFrame, report: dict[str, Any], folder: Path) -> None:
    """Write examples.parquet and examples.json, which holds the report and the former's SHA-256."""
    plain = examples.copy()
    plain.attrs = {}
    write_table(plain, folder / "examples.parquet")
    write_json(folder / "examples.json", report | {"sha256": sha256(folder / "examples.parquet")})


def _columns(where: str, dataset: Dataset, path: Path) -> pd.DataFrame:
    """Return the named columns of the source's table as strings, under the names that examples have."""
    known = [name for name in pq.read_schema(path).names if name not in ("id", "part")]
    for name in (*dataset.text, dataset.label):
        if name not in known:
            raise unknown(f"{where} (source {dataset.source})", "column", name, known)
    table = pq.read_table(path, columns=["id", *{*dataset.text, dataset.label}, "part"])
    named = dict(zip(("text", "text_pair"), dataset.text, strict=False))
    columns = {"id": table["id"], **{new: _strings(where, table, old) for new, old in named.items()}}
    columns |= {"label": _strings(where, table, dataset.label), "part": table["part"]}
    return pd.DataFrame({name: pd.Series(values.to_pylist(), dtype=object) for name, values in columns.items()})


def _strings(where: str, table: pa.Table, name: str) -> pa.ChunkedArray:
    """Return a column as strings: whole numbers without a point, true and false as words."""
    values = table[name]
    if pa.types.is_floating(values.type) and pc.all(pc.equal(values, pc.round(values))).as_py():
        values = values.cast(pa.int64())
    try:
        return values.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise StudyError(f"{where}: the column {name!r} holds {values.type}, not text or labels.") from None


def _of_parts(where: str, dataset: Dataset, rows: pd.DataFrame, dropped: Counter[str]) -> pd.DataFrame:
    present = sorted(set(rows["part"]))
    for part in dataset.parts:
        if part not in present:
            raise unknown(f"{where}.parts", "part", part, present)
    kept = rows["part"].isin(dataset.parts or present)
    dropped["other part"] = int((~kept).sum())
    return rows[kept]


def _of_labels(
    where: str, dataset: Dataset, rows: pd.DataFrame, dropped: Counter[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of the labels that count, with class numbers, and the labels in order."""
    without = rows["label"].isna() | (rows["label"].fillna("").str.strip() == "")
    _refuse(where, rows[without], f"has no label (column {dataset.label!r})")
    present = sorted(set(rows["label"]), key=lambda label: (0, int(label), "") if _is_whole(label) else (1, 0, label))
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


def _is_whole(label: str) -> bool:
    return label.lstrip("-").isascii() and label.lstrip("-").isdigit()


def _refuse(where: str, rows: pd.DataFrame, complaint: str) -> None:
    """Raise StudyError when there are such rows, naming the first and how many there are."""
    if len(rows):
        first = rows.iloc[0]
        more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
        raise StudyError(
            f"{where}: row {first['id']} (part {first['part']}) {complaint}{more}; mend or leave out the rows."
        )
