"""Variance components: how far the levels of each factor move a value, and the error of a mean over shared levels."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from peftstudy import seeds


def components(values: np.ndarray, *factors: Sequence) -> np.ndarray:
    """Return the variance between the levels of each factor, and last the rest; an estimate may be negative.

    values: shape (runs, ...). factors: the level of each run, shape (runs,); those of an interaction are the levels'
    combinations. Sums of squares within the levels of each factor are set equal to their expectations, which for a
    whole grid is the analysis of variance. Raises numpy's LinAlgError where the runs cannot tell the factors apart.
    Source: Searle, Casella and McCulloch (1992), chapters 4 and 5.

    >>> [round(float(x), 6) + 0.0 for x in components(np.array([1.0, 2.0, 3.0, 4.0]), [0, 0, 1, 1], [0, 1, 0, 1])]
    [2.0, 0.5, 0.0]
    """
    values = np.asarray(values, dtype=float)
    alike = [np.equal.outer(levels, levels).astype(float) for levels in map(_codes, factors)]
    alike.append(np.eye(len(values)))
    averages = [same / same.sum(axis=1, keepdims=True) for same in alike[:-1]]
    averages.append(np.full((len(values), len(values)), 1 / len(values)))
    within = [np.eye(len(values)) - average for average in averages]
    expected = np.array([[(part * same).sum() for same in alike] for part in within])
    if np.linalg.matrix_rank(expected) < len(expected):
        raise np.linalg.LinAlgError("the runs cannot tell these factors apart")
    found = np.array([(np.tensordot(part, values, 1) ** 2).sum(axis=0) for part in within])
    return np.linalg.solve(expected, found.reshape(len(expected), -1)).reshape(found.shape)


def _codes(levels: Sequence) -> np.ndarray:
    number: dict = {}
    return np.array([number.setdefault(level, len(number)) for level in levels])


class Bounds(NamedTuple):
    """The interval of a variance."""

    low: float
    high: float


def grid_bounds(found: Sequence[float], levels: tuple[int, int], level: float = 0.95) -> list[Bounds]:
    """Return the intervals of the components of a whole grid: of its rows, of its columns, and of the rest.

    found: as components() gives them. levels: the rows and columns. For normal effects; those of rows and columns are
    Williams' and Tukey's, near to what they promise, that of the rest is exact.
    Source: Williams (1962); Searle, Casella and McCulloch (1992), section 3.6.

    >>> [round(float(bound), 3) for bound in grid_bounds([2.0, 0.5, 0.1], (3, 3))[2]]
    [0.036, 0.826]
    """
    tails = np.array([(1 + level) / 2, (1 - level) / 2])
    *between, rest = found
    of_rest = (levels[0] - 1) * (levels[1] - 1)
    bounds = []
    for component, own, other in zip(between, levels, reversed(levels), strict=True):
        freedom = own - 1
        squares = freedom * (rest + other * component)
        beyond = squares - freedom * rest * stats.f.ppf(tails, freedom, of_rest)
        bounds.append(Bounds(*np.maximum(0.0, beyond / (other * stats.chi2.ppf(tails, freedom)))))
    return [*bounds, Bounds(*(of_rest * rest / stats.chi2.ppf(tails, of_rest)))]


class Spread(NamedTuple):
    """How far a run may be off, and how far a mean over runs that may share seeds.

    sd: the standard deviation of runs whose seeds are all their own. independent: as many of them tell as much of the
    mean, were their standard deviation mean_sd. For runs with seeds of their own, that is their number, and sd.
    """

    sd: np.ndarray
    independent: int
    mean_sd: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """The standard error of the mean; its t has independent - 1 degrees of freedom."""
        return self.mean_sd / np.sqrt(self.independent)


def is_crossed(labels: Iterable) -> bool:
    """Whether seeds have several initialisations and several orders, and share some: their runs are not independent."""
    return min(seeds.shared(map(seeds.parse, labels))) > 1


def spread(values: np.ndarray, labels: Sequence) -> Spread | None:
    """Return the spread of values over seeds; None where these do not tell it.

    values: shape (runs, ...). labels: the runs' seeds. Runs of one initialisation are alike, and so are those of one
    order: taken for independent, nine runs of three and three would promise far too much (benchmarks/coverage.py).
    The mean's variance is put together from the components, those below zero taken for zero, with as many degrees of
    freedom as the factor with fewer levels has.
    """
    if not is_crossed(labels):
        sd = values.std(axis=0, ddof=1) if len(values) > 1 else None
        return None if sd is None else Spread(sd, len(values), sd)
    found = [seeds.parse(label) for label in labels]
    factors = [[seeds.initialization(one) for one in found], [seeds.order(one) for one in found]]
    try:
        variances = np.maximum(0.0, components(values, *factors))
    except np.linalg.LinAlgError:
        return None
    counts = [np.unique(levels, return_counts=True)[1] for levels in factors]
    shares = [(count**2).sum() / len(found) ** 2 for count in counts] + [1 / len(found)]
    independent = min(map(len, counts))
    of_mean = np.tensordot(shares, variances, 1)
    return Spread(np.sqrt(variances.sum(axis=0)), independent, np.sqrt(of_mean * independent))
