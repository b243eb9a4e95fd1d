"""What a finding rests on: measured quantities with intervals, and what these decide."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from peftstudy.intervals import Interval, interval
from peftstudy.paired_tests import paired_difference

MINUS = "\N{MINUS SIGN}"


class Claim(NamedTuple):
    """One quantity that a finding rests on, and the range in which the finding wants it."""

    what: str
    value: Interval | None
    low: float = -np.inf
    high: float = np.inf

    @property
    def verdict(self) -> str:
        """holds when the interval lies inside the range, fails when it lies outside, else undecided."""
        if self.value is None or self.value.low is None:
            return "undecided"
        if self.low < self.value.low and self.value.high < self.high:
            return "holds"
        if self.value.high <= self.low or self.value.low >= self.high:
            return "fails"
        return "undecided"

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.what}: not measured"
        mean, low, high = self.value
        if low is None:
            return f"{self.what}: {_short(mean)} (no interval)"
        return f"{self.what}: {_short(mean)}" + (f" [{_short(low)}, {_short(high)}]" if low < high else "")


def _short(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
    return (text.lstrip("-") if not text.strip("-0.") else text).replace("-", MINUS)


def verdict(claims: Iterable[Claim]) -> str:
    """Return what claims say together: one that fails is enough to fail, all must hold to hold."""
    verdicts = {claim.verdict for claim in claims}
    return "fails" if "fails" in verdicts else "holds" if verdicts == {"holds"} else "undecided"


def evidence(claims: list[Claim], most: int = 3) -> str:
    """Return the claims that decide, with their numbers: those that fail, else the open ones, else the nearest."""
    worst = next(kind for kind in ("fails", "undecided", "holds") if any(claim.verdict == kind for claim in claims))
    shown = [claim for claim in claims if claim.verdict == worst]
    counts = f"{len(shown)} of {len(claims)}; " if len(claims) > most else ""
    if worst == "holds":
        shown.sort(key=lambda claim: min(claim.value.low - claim.low, claim.high - claim.value.high))
        counts = f"all of {len(claims)}, nearest; " if len(claims) > most else ""
    return counts + "; ".join(map(str, shown[:most]))


def minus(a: pd.Series, b: pd.Series) -> Interval | None:
    """Return the paired difference, or nothing where no seed finished both."""
    a, b = a.dropna(), b.dropna()
    if not len(a.index.intersection(b.index)):
        return None
    return Interval(*paired_difference(a, b)[:3])


def counted(a: pd.Series, b: pd.Series) -> Interval | None:
    """Return the paired difference of counts: chance has no part in them, so seeds that agree are certain."""
    found = minus(a, b)
    differences = (a - b).dropna()
    if len(differences) > 1 and differences.nunique() == 1:
        return Interval(found.mean, found.mean, found.mean)
    return found


def mean(values: pd.Series) -> Interval | None:
    values = values.dropna()
    return interval(values.to_numpy()) if len(values) else None
