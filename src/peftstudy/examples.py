"""Examples: the rows of a source that pose a dataset's task, with text, label and official part."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from peftstudy import tasks
from peftstudy.drawing import strata, stratified_order
from peftstudy.errors import StudyError, refuse_unknown
from peftstudy.files import sha256, write_json
from peftstudy.labels import refuse
from peftstudy.sources import write_table
from peftstudy.specs import Dataset


def read_examples(dataset: Dataset, table: Path, data_seed: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a dataset's examples in the order of the source's table, and a report.

    Columns: id, text, text_pair (pairs only), choices (multiple choice only), label (as the task wants it;
    a class is a place in the report's `labels`), part, and, where they differ from the labels, the strata
    by which examples are drawn and cut, the group that keeps examples together, and which are alike: of those that
    are, validation and test hold one.
    With `examples`, so many rows are drawn by stratum; a larger number keeps the rows of a smaller.
    Raises StudyError for an unknown column or part, a row with an empty text or a label that does not
    fit the task, and more examples than there are.
    """
    where = f"datasets.{dataset.name}"
    task = tasks.create(dataset.task, f"{where}.task")
    rows = _columns(where, dataset, task, table)
    dropped: Counter[str] = Counter()
    rows = _of_parts(where, dataset, rows, dropped)
    rows, labels = task.label(where, dataset, rows, dropped)
    for column in ("text", "text_pair"):
        if column in rows:
            broken = rows[column].map(lambda text: isinstance(text, list) and None in text)
            refuse(where, rows[broken], f"has a word that is null (column {dataset.text[column == 'text_pair']!r})")
            empty = rows[column].map(lambda text: not "".join(text or "").strip())
            refuse(where, rows[empty], f"has an empty text (column {dataset.text[column == 'text_pair']!r})")
    if dataset.group:
        refuse(where, rows[rows["group"].isna()], f"has no group (column {dataset.group!r})")
    if dataset.examples is not None:
        if dataset.examples > len(rows):
            raise StudyError(f"{where}.examples: {dataset.examples} asked for, but there are only {len(rows)}.")
        order = stratified_order(strata(rows), np.random.default_rng([data_seed, 0]))
        if dataset.balanced:
            order = _balanced(where, order, rows["label"].to_numpy(), labels, dataset.examples)
        dropped["not drawn"] = len(rows) - dataset.examples
        rows = rows.iloc[np.sort(order[: dataset.examples])]
    rows = rows.reset_index(drop=True)
    rows.attrs["labels"] = labels
    report = {
        "dataset": dataset.name, "labels": labels, "examples": len(rows), "data_seed": data_seed,
        "counts": _counts(rows["label"], labels), "dropped": dict(sorted(dropped.items())),
        "source_sha256": sha256(table), "task": dataset.task,
    }  # fmt: skip
    if options := task.options(dataset):
        report["options"] = options
    if dataset.metric:
        report["metric"] = dataset.metric
    if dataset.names:
        report["names"] = list(dataset.names)
    if dataset.group:
        report["group"] = dataset.group
    return rows, report


def borrow(
    examples: pd.DataFrame, report: dict[str, Any], other: pd.DataFrame, other_report: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a dataset's examples with those of another behind them, which it is tested on, and the report.

    A column `borrowed` tells them apart. Groups are known to be the same where both name one column for them. Raises
    StudyError when the two have not the same classes.
    """
    name, of = report["dataset"], other_report["dataset"]
    if report["labels"] != other_report["labels"]:
        own, others = (", ".join(map(repr, about["labels"])) or "none" for about in (report, other_report))
        raise StudyError(
            f"datasets.{name}.test_from: the classes differ ({own}; of {of} {others}); name the same under labels."
        )
    shared = [column for column in examples if column in other or column in ("group", "alike")]
    other = other.assign(id=f"{of}/" + other["id"].astype(str)).reindex(columns=shared)
    own_group = report.get("group")
    if "group" in shared and other_report.get("group", own_group) != own_group:  # earlier reports do not name it
        other["group"] = None
    if "alike" in shared:
        other["alike"] += examples["alike"].max() + 1
    rows = pd.concat([examples[shared].assign(borrowed=False), other.assign(borrowed=True)], ignore_index=True)
    rows.attrs["labels"] = report["labels"]
    return rows, report | {"tested_on": of, "borrowed": len(other), "examples": len(examples)}


def _counts(column: pd.Series, labels: list[str]) -> dict[str, int]:
    """Return how often each label occurs, where labels are classes, of examples or of words."""
    if not labels:
        return {}
    counts = np.bincount(np.concatenate([np.atleast_1d(label) for label in column]), minlength=len(labels))
    return {label: int(count) for label, count in zip(labels, counts, strict=True)}


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


def _columns(where: str, dataset: Dataset, task: tasks.Task, path: Path) -> pd.DataFrame:
    """Return the named columns of the source's table, under the names that examples have."""
    known = [name for name in pq.read_schema(path).names if name not in ("id", "part")]
    wanted = [*dataset.text, *dataset.choices, dataset.label, *([dataset.group] if dataset.group else [])]
    refuse_unknown(f"{where} (source {dataset.source})", "column", wanted, known)
    table = pq.read_table(path, columns=["id", *dict.fromkeys(wanted), "part"])
    read = _lists if task.words else _strings
    named = dict(zip(("text", "text_pair"), dataset.text, strict=False))
    columns = {"id": table["id"].to_pylist()}
    columns |= {new: read(where, table, old) for new, old in named.items()}
    if dataset.choices:
        columns["choices"] = _choices(where, dataset, table)
    nested = not task.plain_label and pa.types.is_nested(table[dataset.label].type)
    label = table[dataset.label].to_pylist() if nested else _strings(where, table, dataset.label)
    columns |= {"label": label, "part": table["part"].to_pylist()}
    if dataset.group:
        columns["group"] = _strings(where, table, dataset.group)
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def _strings(where: str, table: pa.Table, name: str) -> list[str | None]:
    """Return a column as strings: whole numbers without a point, true and false as words; what is no number as none."""
    values = table[name]
    try:
        if pa.types.is_floating(values.type):
            values = values.cast(pa.float32()) if pa.types.is_float16(values.type) else values
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
            if pc.all(pc.equal(values, pc.round(values))).as_py():
                values = values.cast(pa.int64())
        return values.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise StudyError(f"{where}: the column {name!r} holds {values.type}, not text or labels.") from None


def _lists(where: str, table: pa.Table, name: str) -> list[list[str] | None]:
    """Return a column of lists of strings; of strings, their words."""
    values = table[name]
    if not pa.types.is_list(values.type) and not pa.types.is_large_list(values.type):
        return [None if text is None else text.split() for text in _strings(where, table, name)]
    try:
        return values.cast(pa.list_(pa.string())).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise StudyError(f"{where}: the column {name!r} holds {values.type}, not lists of text.") from None


def _choices(where: str, dataset: Dataset, table: pa.Table) -> list[list[str] | None]:
    """Return the choices of each row, from one column of lists or from a column for each."""
    if len(dataset.choices) == 1:
        return _lists(where, table, dataset.choices[0])
    return list(map(list, zip(*(_strings(where, table, name) for name in dataset.choices), strict=True)))


def _of_parts(where: str, dataset: Dataset, rows: pd.DataFrame, dropped: Counter[str]) -> pd.DataFrame:
    present = sorted(set(rows["part"]))
    refuse_unknown(f"{where}.parts", "part", dataset.parts, present)
    kept = rows["part"].isin(dataset.parts or present)
    dropped["other part"] = int((~kept).sum())
    return rows[kept]
