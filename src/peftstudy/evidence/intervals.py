"""How sure a mean or a rate is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from peftstudy.evidence.components import is_crossed, spread

MANY = 30
"""From so many scores on, intervals are bootstrapped. Below, Student's t is nearer to what it promises also where
scores are skewed or some runs collapse (benchmarks/coverage.py)."""


class Interval(NamedTuple):
    """A mean and the bounds of its interval; the bounds are None where the values say nothing of spread."""

    mean: float
    low: float | None
    high: float | None


def interval(scores: Sequence[float] | np.ndarray, level: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean of some scores and its interval: Student's t for few, the BCa bootstrap for many.

    scores: shape (seeds,), finite. One score has no interval, nor have scores that are all the same: on a hundred test
    examples seeds may agree by chance. `seed` fixes the bootstrap's draws.
    Raises ValueError when there are no scores, or one is not finite.
    Source: Efron and Tibshirani (1993), chapters 12 and 14.

    >>> [round(float(x), 3) for x in interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise ValueError("an interval needs one finite score or more")
    mean = float(scores.mean())
    if np.ptp(scores) == 0:
        return Interval(mean, None, None)
    low, high = stats.t.interval(level, len(scores) - 1, mean, stats.sem(scores))
    if len(scores) >= MANY:
        rng = np.random.default_rng(seed)
        low, high = stats.bootstrap(
            (scores,), np.mean, confidence_level=level, method="BCa", rng=rng
        ).confidence_interval
    return Interval(mean, float(low), float(high))


def over_seeds(scores: pd.Series, level: float = 0.95) -> Interval:
    """Return the mean of scores indexed by seed, and its interval; of crossed seeds, by their variance components.

    There are no bounds where runs share seeds in a way that tells nothing of the spread.
    """
    values = scores.to_numpy(dtype=float)
    if not is_crossed(scores.index) or np.ptp(values) == 0:
        return interval(values, level)
    mean, found = float(values.mean()), spread(values, scores.index)
    if found is None:
        return Interval(mean, None, None)
    half = float(stats.t.ppf((1 + level) / 2, found.independent - 1) * found.error)
    return Interval(mean, mean - half, mean + half)


def of_one_more(mean: float, sd: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Return where one further score lies, given the mean and standard deviation of `count`, two or more, normal ones.

    Source: Hahn and Meeker (1991), section 4.3.

    >>> [round(float(x), 2) for x in of_one_more(2.0, 1.0, 3)]
    [-2.97, 6.97]
    """
    half = stats.t.ppf((1 + level) / 2, count - 1) * sd * np.sqrt(1 + 1 / count)
    return mean - half, mean + half


def rate(count: int, of: int, level: float = 0.95) -> Interval:
    """Return a share and its exact interval, which covers the true share at least as often as it says.

    Raises ValueError when there is nothing to count among. Source: Clopper and Pearson (1934).

    >>> [round(float(x), 4) for x in rate(0, 3)]
    [0.0, 0.0, 0.7076]
    """
    if of < 1:
        raise ValueError("a rate needs one run or more")
    low, high = stats.binomtest(count, of).proportion_ci(level, method="exact")
    return Interval(count / of, float(low), float(high))
