"""Methods ranked over datasets: Friedman's test and Nemenyi's critical difference."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

FEWEST_DATASETS = 5
"""Friedman's statistic follows its distribution when there are more; Demšar asks for N > 10 and k > 5, or tables."""


class Ranks(NamedTuple):
    """Mean ranks, best first (1 is best); Friedman's p value; how far two ranks must lie apart."""

    mean: pd.Series
    p: float
    critical: float
    datasets: int


def ranks(scores: pd.DataFrame, level: float = 0.05) -> Ranks:
    """Return the ranks of methods over datasets; ties share their mean rank.

    scores: a row a dataset, a column a method, without gaps; larger is better.
    Raises ValueError when there are fewer than two methods or datasets.
    Source: Demšar (2006), section 3.2.2.
    """
    datasets, methods = scores.shape
    if datasets < 2 or methods < 2:
        raise ValueError("ranks need two methods and two datasets or more")
    mean = scores.rank(axis=1, ascending=False).mean().sort_values(kind="stable")
    return Ranks(mean, friedman(scores.to_numpy()), critical_difference(methods, datasets, level), datasets)


def friedman(scores: np.ndarray) -> float:
    """Return the p value of Friedman's test, corrected for ties; 1 where every dataset ties all methods.

    scores: shape (datasets, methods). Two methods are Friedman's as well, where scipy wants three.
    """
    datasets, methods = scores.shape
    ranked = stats.rankdata(scores, axis=1)
    spread = ((ranked - (methods + 1) / 2) ** 2).sum()
    if spread == 0:
        return 1.0
    between = (ranked.sum(axis=0) - datasets * (methods + 1) / 2) ** 2
    return float(stats.chi2.sf((methods - 1) * between.sum() / spread, methods - 1))


def critical_difference(methods: int, datasets: int, level: float = 0.05) -> float:
    """Return how far two mean ranks must lie apart for the methods to differ (Nemenyi).

    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    q = stats.studentized_range.ppf(1 - level, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * datasets)))


def cliques(mean: pd.Series, critical: float) -> list[tuple[str, str]]:
    """Return the first and last of each longest run of methods that are not told apart, best first.

    mean: mean ranks, sorted. Runs within a longer one, and methods told apart from all, are left out.

    >>> cliques(pd.Series({"a": 1.0, "b": 1.5, "c": 2.4}), 1.0)
    [('a', 'b'), ('b', 'c')]
    """
    found: list[tuple[int, int]] = []
    for start, value in enumerate(mean):
        end = int(np.flatnonzero(mean.to_numpy() <= value + critical).max())
        if end > start and (not found or end > found[-1][1]):
            found.append((start, end))
    return [(mean.index[start], mean.index[end]) for start, end in found]
