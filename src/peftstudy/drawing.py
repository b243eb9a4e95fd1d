"""Drawing: which examples are learned from, which of those validate, and which are tested on, each in its order."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from peftstudy.errors import StudyError

VALIDATION_NAMES = ("validation", "dev", "valid")


@dataclass(frozen=True)
class Drawn:
    """Numbers of examples, in the order of the draw: those of train and validation, and those of test.

    validating: which of `learn` validate, shape (learn,).
    """

    learn: np.ndarray
    validating: np.ndarray
    test: np.ndarray

    def only(self, learn: np.ndarray | slice = slice(None), test: np.ndarray | slice = slice(None)) -> "Drawn":
        """Return those at some places of `learn` and of `test`, which masks may name; without them, all."""
        return Drawn(self.learn[learn], self.validating[learn], self.test[test])

    def beginning(self, share: float) -> "Drawn":
        """Return the first share of train, and of validation, and all of test."""
        parts = [np.flatnonzero(part) for part in (~self.validating, self.validating)]
        return self.only(np.sort(np.concatenate([places[: round(len(places) * share)] for places in parts])))

    def parts(self) -> dict[str, np.ndarray]:
        """Return the numbers of each part, int32."""
        parts = {"train": self.learn[~self.validating], "validation": self.learn[self.validating], "test": self.test}
        return {part: numbers.astype(np.int32) for part, numbers in parts.items()}


def stratified_order(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random order of examples in which every beginning holds each class in its proportion.

    classes: class numbers, shape (examples,). In the first k examples the count of a class differs
    from k times its share by less than 1. Which examples of a class come first is random.
    Source: Tijdeman (1980), "The chairman assignment problem".
    """
    names, counts = np.unique(classes, return_counts=True)
    members = [list(rng.permutation(np.flatnonzero(classes == name))) for name in names]
    total, groups = len(classes), len(names)
    if groups < 2:
        return np.array([index for group in members for index in group], dtype=np.int64)
    counts = counts.astype(np.int64)
    given = np.zeros(groups, dtype=np.int64)
    scale = 2 * groups - 2
    order = np.empty(total, dtype=np.int64)
    for place in range(total):
        # The classes that lag enough may come next; of these the one that must come soonest does.
        lagging = scale * (counts * (place + 1) - given * total) >= total
        deadline = np.where(lagging, ((given + 1) * scale - 1) / counts, np.inf)
        chosen = int(np.argmin(deadline))
        order[place] = members[chosen][given[chosen]]
        given[chosen] += 1
    return order


def strata(examples: pd.DataFrame) -> np.ndarray:
    """Return the whole number by which examples are drawn and cut: the label, unless there is a column for it."""
    return examples["stratum" if "stratum" in examples else "label"].to_numpy()


def by_share(examples: pd.DataFrame, share: float, validation: float, rng: np.random.Generator) -> Drawn:
    """Return examples of which the share is learned from; what belongs together stays on one side."""
    classes = strata(examples)
    if together := _together(examples):
        return _groups_by_share(pd.factorize(examples[together])[0], share, validation, rng)
    order = stratified_order(classes, rng)
    first = round(len(order) * share)
    learn, test = order[:first], order[first:]
    return Drawn(learn, _validates(classes[learn], validation), test)


def _groups_by_share(groups: np.ndarray, share: float, validation: float, rng: np.random.Generator) -> Drawn:
    """Return what by_share() does of groups, shape (examples,): the shares are of examples, as near as groups allow."""
    order = rng.permutation(groups.max() + 1)
    sizes = np.bincount(groups)[order]
    nearest = int(np.abs(np.cumsum([0, *sizes]) - len(groups) * share).argmin())
    first = max(min(nearest, len(order) - 1), 1 + (validation > 0))  # each part has a group
    validating = _groups_that_validate(sizes[:first], validation)
    place = np.argsort(order)[groups]
    learn = rng.permutation(np.flatnonzero(place < first))
    return Drawn(learn, validating[place[learn]], rng.permutation(np.flatnonzero(place >= first)))


def by_part(examples: pd.DataFrame, validation: float, rng: np.random.Generator, wants_test: bool) -> Drawn:
    """Return examples by their official parts; without one for validation, a share of train is."""
    present = sorted(set(examples["part"]))
    own = next((name for name in VALIDATION_NAMES if name in present), None)
    missing = [part for part in ("train", *(["test"] if wants_test else [])) if part not in present]
    if missing:
        raise StudyError(f"splits: official needs a part {missing[0]!r}, and the data have: {', '.join(present)}.")
    classes = strata(examples)

    def drawn(part: str) -> np.ndarray:
        numbers = np.flatnonzero(examples["part"] == part)
        return numbers[stratified_order(classes[numbers], rng)]

    train, test = drawn("train"), drawn("test")
    if own is None:
        together = _together(examples)
        if together is None:
            return Drawn(train, _validates(classes[train], validation), test)
        groups = pd.factorize(examples[together].iloc[train])[0]
        return Drawn(train, _groups_that_validate(np.bincount(groups), validation)[groups], test)
    learn = np.concatenate([train, drawn(own)])
    return Drawn(learn, np.arange(len(learn)) >= len(train), test)


def _together(examples: pd.DataFrame) -> str | None:
    """Return the column whose values keep examples together, if there is one."""
    return next((column for column in ("group", "alike") if column in examples), None)


def _validates(classes: np.ndarray, share: float) -> np.ndarray:
    """Return which examples of an ordered training part validate: of each class the share, within 1.

    Each one's place within its class decides, not the length of the part, so parts nest. The
    classes take turns, so that the whole keeps the share too, and a class's first example trains.
    """
    validates = np.zeros(len(classes), dtype=bool)
    names = np.unique(classes)
    for turn, name in enumerate(names):
        places = np.flatnonzero(classes == name)
        start = (1 - share) * (turn + 0.5) / len(names)
        steps = np.floor(np.arange(len(places) + 1) * share + start)
        validates[places] = np.diff(steps) > 0
    return validates


def _groups_that_validate(sizes: np.ndarray, share: float) -> np.ndarray:
    """Return which groups of an ordered training part validate, by their sizes: of the examples about the share.

    A group does once half of it is owed; what comes later does not matter, so parts nest. The first one trains.
    """
    validates, owed = np.zeros(len(sizes), dtype=bool), 0.0
    for number, size in enumerate(sizes):
        owed += share * size
        if number and owed >= size / 2:
            validates[number], owed = True, owed - size
    if share and len(sizes) > 1 and not validates.any():  # few groups, and large ones
        validates[1 + np.abs(sizes[1:] - share * sizes.sum()).argmin()] = True
    return validates
