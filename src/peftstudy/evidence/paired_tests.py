"""Two methods on the same seeds or the same test examples: differences, and tests of them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import signal, stats

from peftstudy.evidence.components import is_crossed, spread
from peftstudy.evidence.intervals import over_seeds

RESAMPLES = 9_999
LARGEST = 200_000
"""Whole-number differences up to such a sum have their distribution computed; others are drawn from."""


class Difference(NamedTuple):
    """A mean paired difference, its interval, the p value of a paired t test, and the number of pairs."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    pairs: int


def paired_difference(a: pd.Series, b: pd.Series, level: float = 0.95) -> Difference:
    """Return mean(a - b), its interval and its p value, over the seeds that both have.

    a, b: scores, indexed by seed, without gaps. Where all differences are alike there are no bounds and
    no p value: seeds that agree by chance are no evidence. Raises ValueError when no seed is shared.

    >>> paired_difference(pd.Series([0.7, 0.8], index=[0, 1]), pd.Series([0.5, 0.5], index=[1, 2])).pairs
    1
    """
    seeds = a.index.intersection(b.index).sort_values()
    if not len(seeds):
        raise ValueError("no seed is shared")
    differences = (a.loc[seeds] - b.loc[seeds]).to_numpy(dtype=float)
    # Accuracies are fractions: 0.7 - 0.6 and 0.8 - 0.7 differ in the last bit, and must not.
    differences = differences.round(12) + 0.0
    if np.ptp(differences) == 0:
        return Difference(float(differences[0]), None, None, None, len(seeds))
    interval = over_seeds(pd.Series(differences, index=seeds), level)
    return Difference(*interval, _p_value(differences, seeds), len(seeds))


def _p_value(differences: np.ndarray, seeds: pd.Index) -> float | None:
    if not is_crossed(seeds):
        return float(stats.ttest_1samp(differences, 0.0).pvalue)
    found = spread(differences, seeds)
    if found is None:
        return None
    return float(2 * stats.t.sf(abs(differences.mean()) / found.error, found.independent - 1))


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p value of McNemar's test.

    only_a, only_b: how many examples a alone, and b alone, answered rightly; those that both did are no evidence.
    Source: McNemar (1947), with the binomial distribution in place of its approximation.

    >>> mcnemar(1, 7)
    0.0703125
    """
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def paired_permutation(differences: Sequence[float] | np.ndarray, seed: int = 0) -> float:
    """Return the two-sided p value of the mean difference, over all ways of swapping the two of a pair.

    differences: a - b for each example, shape (examples,). Whole numbers (counts of right answers over
    seeds) give the exact p value; others one from RESAMPLES random swaps, which `seed` fixes.
    Source: Fisher (1935), section 21.

    >>> round(paired_permutation([1, 1, 1, 1, -1]), 6)
    0.375
    """
    differences = np.asarray(differences, dtype=float)
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    if (differences == np.round(differences)).all() and np.abs(differences).sum() <= LARGEST:
        return _exact(np.abs(differences).astype(int), int(abs(differences.sum())))
    found = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, vectorized=True,
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.pvalue)


def _exact(sizes: np.ndarray, observed: int) -> float:
    """Return how often a sum of `sizes` under random signs is as far from zero as `observed`."""
    distribution = np.ones(1)
    for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
        # Of `count` signs, k are plus: the sum moves by 2 * size for each.
        steps = np.zeros(size * count + 1)
        steps[::size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        short = min(len(steps), len(distribution)) < 64
        distribution = np.convolve(distribution, steps) if short else signal.fftconvolve(distribution, steps)
    sums = 2 * np.arange(len(distribution)) - sizes.sum()
    return float(np.clip(distribution[np.abs(sums) >= observed].sum(), 0.0, 1.0))


def holm(p_values: Iterable[float]) -> np.ndarray:
    """Return p values adjusted for their number by Holm's step-down procedure; NaN stays and is not counted.

    Source: Holm (1979).

    >>> [round(float(p), 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(list(p_values), dtype=float)
    adjusted = np.full(len(p_values), np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted


def holm_levels(p_values: Iterable[float], level: float = 0.05) -> np.ndarray:
    """Return the level at which Holm's procedure tests each p value at its rank; NaN where there is none.

    A comparison that is open is found once its p value falls below that, and those of clearer ones did.

    >>> [round(float(x), 4) for x in holm_levels([0.01, 0.04, 0.03])]
    [0.0167, 0.05, 0.025]
    """
    p_values = np.asarray(list(p_values), dtype=float)
    known = np.flatnonzero(~np.isnan(p_values))
    levels = np.full(len(p_values), np.nan)
    levels[known[np.argsort(p_values[known], kind="stable")]] = level / np.arange(len(known), 0, -1)
    return levels
