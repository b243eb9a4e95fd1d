"""Splits: which rows of a source are a dataset's examples, and which part of a split each falls into.

One stratified order of all examples carries every split: the training part is its first share, the
test part its last, and whether an example of the training part validates depends on its own place
alone. So smaller training parts lie within larger ones, train in train and, but for copies, validation in validation.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from peftstudy import drawing
from peftstudy.corpora import fold
from peftstudy.drawing import Drawn
from peftstudy.errors import StudyError
from peftstudy.files import read_json, sha256, whole, write_json

PARTS = ("train", "validation", "test")
MANY_ALIKE = 10
"""So many equal numbers are no chance."""


@dataclass(frozen=True)
class Split:
    """Example numbers of disjoint parts (int32, in the order of the draw), and what is to be said of them."""

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    report: dict[str, Any]


def cut(
    examples: pd.DataFrame, name: str, validation: float, data_seed: int, tested: np.ndarray | None = None
) -> Split:
    """Return the split of the examples that a name asks for.

    name: `a-b` (train and test in percent), `size-N` (the first N of 90-10's train and validation,
    and 90-10's test), `official` (the parts train, test and, where there is one, validation), or `official-N` (the
    first N percent of official's train, and of its validation, and official's test).
    tested: numbers of the other dataset's examples that are the test part, where the column `borrowed` says that
    examples are another dataset's; these stand behind the own ones, and are numbered from 0.
    validation: the share of the training part that is set apart. Copies (white space folded; both
    texts of a pair) of a training or validation text are kept out of test, and copies of a training
    text out of validation; the report counts them. Where there is a column `group`, all examples of a group
    fall into one part (of `official`, where the source has put them); what is of a group that another dataset's test
    part holds is left out of train and validation, and counted. Where there is a column `alike`, so do those
    that are alike, and validation and test hold the first of them alone.
    Raises StudyError for a size larger than the data, a part that would be empty or of one class,
    and a class that is not in train.
    """
    classes = drawing.strata(examples)
    rng = np.random.default_rng([data_seed, 1])
    asked = _read(name)
    own = examples[~examples["borrowed"].to_numpy(bool)] if "borrowed" in examples else examples
    if asked["kind"] == "official":
        drawn = drawing.by_part(own, validation, rng, tested is None)
    else:
        drawn = drawing.by_share(own, asked["percent"] / 100, validation, rng)
    foreign = 0
    if tested is not None:
        drawn = replace(drawn, test=len(own) + tested.astype(np.int64))
        drawn, foreign = _without_groups_of_test(drawn, examples)
    drawn, duplicates = _without_copies(drawn, examples)
    if "alike" in examples:
        drawn = _told_once(drawn, examples["alike"].to_numpy())
    parts = _as_many_as_asked(drawn, name, asked).parts()
    by_class = "stratum" not in examples
    _check(name, {part: classes[numbers] for part, numbers in parts.items()}, validation, by_class, examples.attrs)
    if pd.api.types.is_float_dtype(examples["label"]):
        _refuse_constant(name, {part: examples["label"].to_numpy()[numbers] for part, numbers in parts.items()})
    report = {
        "name": name, "data_seed": data_seed, "validation": validation, "duplicates": duplicates,
        "duplicates_removed": {"train": 0, "validation": duplicates["validation"], "test": duplicates["test"]},
        "sizes": {part: len(numbers) for part, numbers in parts.items()},
        "labels": {part: _counts(classes[numbers]) if by_class else {} for part, numbers in parts.items()},
    }  # fmt: skip
    if foreign:
        report["of_groups_in_test"] = foreign
    return Split(name, **parts, report=report)


def _as_many_as_asked(drawn: Drawn, name: str, asked: Mapping[str, Any]) -> Drawn:
    if asked["kind"] == "size":
        if asked["size"] > len(drawn.learn):
            raise StudyError(f"splits: {name} asks for more than the {len(drawn.learn)} examples that 90-10 trains on.")
        return drawn.only(slice(asked["size"]))
    return drawn.beginning(asked["percent"] / 100) if asked["kind"] == "official" else drawn


def write_split(split: Split, folder: Path, examples: Path) -> None:
    """Write a split's example numbers and its report; `examples` is the file that they number."""
    digests = {}
    for part in PARTS:
        with whole(folder / f"{part}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, getattr(split, part))
        digests[part] = sha256(folder / f"{part}.npy")
    write_json(folder / "split.json", split.report | {"sha256": digests, "examples_sha256": sha256(examples)})


def load_part(path: Path) -> np.ndarray:
    """Return the example numbers of one part; StudyError when they are not those that split.json vouches for."""
    about = read_json(path.with_name("split.json"))
    if sha256(path) != about["sha256"][path.stem]:
        raise StudyError(f"{path}: damaged (its checksum differs); delete {path.parent} to make it again.")
    return np.load(path)


def folded(examples: pd.DataFrame) -> pd.Series:
    """Return what copies share: the text with its white space folded, of pairs both texts, and the choices."""
    columns = [column for column in ("text", "text_pair", "choices") if column in examples]
    texts = [examples[column].map(fold) for column in columns]
    return pd.Series(["\0".join(both) for both in zip(*texts, strict=True)], index=examples.index)


def _read(name: str) -> dict[str, Any]:
    """Return what a split's name says: its kind (drawn, size or official), and percent or size."""
    if match := re.fullmatch(r"(\d{1,2})-(\d{1,2})", name):
        if int(match[1]) + int(match[2]) != 100:
            raise StudyError(f"splits: {name!r} does not add up to 100 (as 90-10 does).")
        return {"kind": "drawn", "percent": int(match[1])}
    if match := re.fullmatch(r"size-(\d+)", name):
        return {"kind": "size", "percent": 90, "size": int(match[1])}
    if match := re.fullmatch(r"official(?:-([1-9]\d?))?", name):
        return {"kind": "official", "percent": int(match[1] or 100)}
    raise StudyError(
        f"splits: unknown name {name!r} (known: a-b as in 90-10, size-N as in size-500, official, official-N)."
    )


def _told_once(drawn: Drawn, alike: np.ndarray) -> Drawn:
    """Return what was drawn with the first alone of those that are alike, in validation and in test."""
    repeated = drawn.validating & pd.Series(np.where(drawn.validating, alike[drawn.learn], -1)).duplicated().to_numpy()
    return drawn.only(~repeated, ~pd.Series(alike[drawn.test]).duplicated().to_numpy())


def _without_groups_of_test(drawn: Drawn, examples: pd.DataFrame) -> tuple[Drawn, int]:
    """Return train and validation without the groups that another dataset's test part holds, and how many were left."""
    if "group" not in examples:
        return drawn, 0
    groups = examples["group"]
    tested = groups.iloc[drawn.learn].isin(groups.iloc[drawn.test].dropna().unique()).to_numpy()
    return drawn.only(~tested), int(tested.sum())


def _without_copies(drawn: Drawn, examples: pd.DataFrame) -> tuple[Drawn, dict[str, int]]:
    """Return what was drawn without copies of other parts' texts, and what was found.

    Counted are the examples left out of validation and of test, the distinct texts that test shared,
    the examples left out whose label is not their copy's, and the repeats within train that stay.
    """
    learn, test = drawn.learn, drawn.test
    keys = pd.factorize(folded(examples))[0]
    classes = pd.factorize(examples["label"].map(repr))[0]  # a label may be a list
    trained = keys[learn[~drawn.validating]]
    copied = drawn.validating & np.isin(keys[learn], trained)
    shared = np.isin(keys[test], keys[learn])
    left_out = np.concatenate([learn[copied], test[shared]])
    pairs = pd.Series(classes[learn]).groupby(keys[learn]).agg(["min", "max"])
    own = pairs.loc[keys[left_out]]
    conflicting = (own["min"].to_numpy() != classes[left_out]) | (own["max"].to_numpy() != classes[left_out])
    found = {
        "validation": int(copied.sum()), "test": int(shared.sum()),
        "texts_in_test_and_train": len(set(keys[test[shared]])),
        "conflicting_labels": int(conflicting.sum()),
        "repeats_within_train": len(trained) - len(set(trained)),
    }  # fmt: skip
    return drawn.only(~copied, ~shared), found


def _check(
    name: str, parts: dict[str, np.ndarray], validation: float, by_class: bool, attributes: Mapping[str, Any]
) -> None:
    """Raise StudyError unless each part has examples; if strata are classes, of at least two, all seen in train."""
    labels = attributes.get("labels")
    for part, numbers in parts.items():
        if part == "validation" and not len(numbers) and validation == 0:
            continue
        found = len(set(numbers.tolist()))
        if found < 1 + by_class:
            state = "be empty" if not found else f"hold one class only ({_named(numbers[0], labels)})"
            raise StudyError(
                f"splits: {name}: the part {part} would {state} ({len(numbers)} examples); use more examples."
            )
    for part in ("validation", "test") if by_class else ():
        unseen = sorted(set(parts[part].tolist()) - set(parts["train"].tolist()))
        if unseen:
            raise StudyError(f"splits: {name}: the label {_named(unseen[0], labels)} is in {part} but not in train.")


def _refuse_constant(name: str, parts: Mapping[str, np.ndarray]) -> None:
    """Raise StudyError when nothing can be learned of, or told by, the numbers of a part, for they are all one."""
    for part, numbers in parts.items():
        if len(numbers) >= MANY_ALIKE and np.ptp(numbers) == 0:
            raise StudyError(
                f"splits: {name}: every example of the part {part} has the label {numbers[0]:g}, by which methods "
                "cannot be compared; some files have such a number where there is no label."
            )


def _named(number: int, labels: Sequence[str] | None) -> str:
    return repr(labels[number]) if labels else f"number {number}"


def _counts(classes: np.ndarray) -> dict[str, int]:
    numbers, counts = np.unique(classes, return_counts=True)
    return {str(number): int(count) for number, count in zip(numbers, counts, strict=True)}
