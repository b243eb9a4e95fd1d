"""One method over many settings: interquartile mean, performance profile, probability of improvement.

The definitions are those of Agarwal et al. (2021), "Deep reinforcement learning at the edge of the
statistical precipice" (rliable); a setting (dataset, split, backbone) stands where they have a task.
Intervals are percentiles of a bootstrap that draws runs anew within each setting. What is drawn
from n runs has (n - 1) / n of the variance of runs, with three seeds two thirds; so deviations from their mean are
stretched before they are drawn (against what Hesterberg, 2015, calls narrowness bias).
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from peftstudy.evidence.intervals import Interval

RESAMPLES = 2_000

Runs = Sequence[np.ndarray]
"""Scores of the runs, an array for each setting; its last axis is that of the runs."""


def interquartile_mean(runs: Runs) -> np.ndarray:
    """Return the mean of the middle half of all runs.

    >>> float(interquartile_mean([np.array([0.0, 4.0]), np.array([5.0, 90.0])]))
    4.5
    """
    return stats.trim_mean(np.concatenate(runs, axis=-1), 0.25, axis=-1)


def performance_profile(runs: Runs, thresholds: np.ndarray) -> np.ndarray:
    """Return for each threshold the share of runs that score above it, settings weighted alike.

    >>> performance_profile([np.array([1.0, 3.0]), np.array([3.0])], np.array([0.0, 2.0, 3.0])).tolist()
    [1.0, 0.75, 0.0]
    """
    return np.mean([(scores[:, None] > thresholds).mean(axis=0) for scores in runs], axis=0)


def probability_of_improvement(a: Runs, b: Runs) -> np.ndarray:
    """Return how probable it is that a run of `a` beats one of `b`, both drawn at random, in a setting drawn at random.

    Ties count half. Source: Mann and Whitney's U over the number of pairs.

    >>> float(probability_of_improvement([np.array([1.0, 2.0])], [np.array([1.0, 0.0])]))
    0.875
    """
    gaps = (x[..., :, None] - y[..., None, :] for x, y in zip(a, b, strict=True))
    return np.mean([(np.sign(gap) / 2 + 0.5).mean(axis=(-2, -1)) for gap in gaps], axis=0)


def with_interval(
    statistic: Callable[..., np.ndarray], *samples: Runs, grid: np.ndarray | None = None, level: float = 0.95,
    seed: int = 0,
) -> Interval:  # fmt: skip
    """Return a statistic of some runs and its interval by the stratified percentile bootstrap.

    samples: what `statistic` takes. grid: where runs share seeds, which run has which two, shape (initialisations,
    orders): both are drawn anew, and a run comes along with its two (the pigeonhole bootstrap of Owen, 2007).
    There are no bounds where no setting has two runs, for then nothing can be drawn anew, nor where all draws agree, as
    they do when each run of one method beats each of the other, nor where a setting lacks a run of the grid.
    """
    value = float(statistic(*samples))
    if all(len(scores) < 2 for runs in samples for scores in runs):
        return Interval(value, None, None)
    if grid is not None and any(len(scores) != grid.size for runs in samples for scores in runs):
        return Interval(value, None, None)
    rng = np.random.default_rng(seed)
    again = [[_drawn(scores, grid, rng) for scores in runs] for runs in samples]
    drawn = statistic(*again)
    if np.ptp(drawn) < 1e-12:
        return Interval(value, None, None)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _drawn(scores: np.ndarray, grid: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Return RESAMPLES draws of the runs of a setting, shape (RESAMPLES, runs)."""
    if grid is None:
        return rng.choice(_stretched(scores), (RESAMPLES, len(scores)))
    rows, columns = grid.shape
    first, then = rng.integers(rows, size=(RESAMPLES, rows, 1)), rng.integers(columns, size=(RESAMPLES, 1, columns))
    return _stretched(scores[grid])[first, then].reshape(RESAMPLES, -1)


def _stretched(scores: np.ndarray) -> np.ndarray:
    """Return scores whose levels, along each axis, spread as much more as draws from them spread less."""
    middle, apart = scores.mean(), np.zeros_like(scores)
    for axis, levels in enumerate(scores.shape):
        others = tuple(other for other in range(scores.ndim) if other != axis)
        apart = apart + (np.sqrt(levels / max(levels - 1, 1)) - 1) * (scores.mean(others, keepdims=True) - middle)
    return scores + apart
