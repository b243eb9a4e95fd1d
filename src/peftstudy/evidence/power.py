"""What a study could have seen: the smallest difference it would have found, and the seeds that another needs."""

from functools import cache

import numpy as np
from scipy import optimize, stats

POWER = 0.8
MOST_SEEDS = 1_000


def power(difference: float, sd: float, pairs: int, level: float = 0.05) -> float:
    """Return how often a two-sided paired t test with so many pairs finds a true difference.

    sd: the standard deviation of the paired differences. Source: Cohen (1988), chapter 2.

    >>> round(power(0.5, 1.0, 34), 3)
    0.808
    """
    if pairs < 2:
        return 0.0
    if sd == 0:
        return float(difference != 0)
    # The square of the noncentral t: scipy's noncentral F is finite where its noncentral t is not.
    critical = stats.f.ppf(1 - level, 1, pairs - 1)
    return float(stats.ncf.sf(critical, 1, pairs - 1, pairs * (difference / sd) ** 2))


def minimum_detectable(sd: float, pairs: int, wanted: float = POWER, level: float = 0.05) -> float | None:
    """Return the difference that so many pairs find with the wanted power; None where one pair tells no spread.

    >>> round(minimum_detectable(1.0, 34), 3)
    0.495
    """
    if pairs < 2 or not np.isfinite(sd):
        return None
    return sd * _detectable_effect(pairs, wanted, level)


@cache
def _detectable_effect(pairs: int, wanted: float, level: float) -> float:
    # In units of the standard error; two pairs need some 0.8 / level of them.
    found = optimize.brentq(lambda effect: power(effect / np.sqrt(pairs), 1.0, pairs, level) - wanted, 0, 5 / level)
    return float(found / np.sqrt(pairs))


def seeds_to_separate(difference: float, sd: float, wanted: float = POWER, level: float = 0.05) -> int | None:
    """Return how many seeds find such a difference with the wanted power, were it and the spread the true ones.

    None where even MOST_SEEDS do not, which a difference of zero never does.

    >>> seeds_to_separate(0.5, 1.0), seeds_to_separate(0.0, 1.0)
    (34, None)
    """
    if power(difference, sd, MOST_SEEDS, level) < wanted:
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, sd, middle, level) >= wanted else (middle, high)
    return high
