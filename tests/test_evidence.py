"""Tests and aggregates against published worked examples, by hand, and at their edges."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from peftstudy.evidence import aggregates, paired_tests, power, ranks
from peftstudy.evidence.intervals import rate

DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
"""Fisher (1935), section 21: crossed minus self-fertilised maize of Darwin's, in eighths of an inch."""

DEMSAR = """
0.763 0.768 0.771 0.798
0.599 0.591 0.590 0.569
0.954 0.971 0.968 0.967
0.628 0.661 0.654 0.657
0.882 0.888 0.886 0.898
0.936 0.931 0.916 0.931
0.661 0.668 0.609 0.685
0.583 0.583 0.563 0.625
0.775 0.838 0.866 0.875
1.000 1.000 1.000 1.000
0.940 0.962 0.965 0.962
0.619 0.666 0.614 0.669
0.972 0.981 0.9751 0.975
0.957 0.978 0.946 0.970
"""
"""Demšar (2006), table 6: four classifiers on fourteen datasets; the last but one tie is one of rounding, as its
ranks show."""


def test_permutation_is_fishers_own_example():
    # Of 2^15 ways to sign the differences, 863 sum to 314 or more, and as many to -314 or less.
    assert paired_tests.paired_permutation(DARWIN) == pytest.approx(2 * 863 / 2**15)


def test_permutation_of_fractions_agrees_with_that_of_whole_numbers():
    drawn = paired_tests.paired_permutation(np.array(DARWIN) / 7)
    assert drawn == pytest.approx(2 * 863 / 2**15, abs=0.007)
    assert drawn == paired_tests.paired_permutation(np.array(DARWIN) / 7)
    assert paired_tests.paired_permutation([0, 0]) == 1.0


def test_permutation_of_right_and_wrong_is_mcnemar():
    for only_a, only_b in [(5, 9), (0, 6), (200, 131), (400, 400)]:
        differences = [1] * only_a + [-1] * only_b + [0] * 10
        exact = paired_tests.mcnemar(only_a, only_b)
        assert paired_tests.paired_permutation(differences) == pytest.approx(exact, rel=1e-6)


def test_permutation_over_seeds_by_enumeration():
    differences = np.array([3, -1, 2, 2, 1, -3, 1, 1, 2, 3])
    signs = 2 * ((np.arange(2**10)[:, None] >> np.arange(10)) & 1) - 1
    sums = np.abs(signs @ np.abs(differences))
    assert paired_tests.paired_permutation(differences) == pytest.approx((sums >= abs(differences.sum())).mean())


def test_mcnemar_by_hand_and_with_nothing_to_tell():
    assert paired_tests.mcnemar(0, 10) == pytest.approx(2 / 1024)
    assert paired_tests.mcnemar(0, 0) == 1.0
    assert paired_tests.mcnemar(12, 5) == paired_tests.mcnemar(5, 12)


def test_seeds_needed_are_cohens():
    # Cohen (1988): small, medium and large effects, two-sided, 0.05, power 0.80, one sample or pairs.
    assert [power.seeds_to_separate(effect, 1.0) for effect in (0.2, 0.5, 0.8)] == [199, 34, 15]
    assert power.seeds_to_separate(0.5, 2.0) == power.seeds_to_separate(0.25, 1.0)
    assert power.seeds_to_separate(0.1, 0.0) == 2
    assert power.seeds_to_separate(0.001, 1.0) is None


def test_what_is_detectable_is_found_with_the_wanted_power():
    for pairs, level in product((2, 3, 10, 50), (0.05, 0.05 / 90)):
        smallest = power.minimum_detectable(0.02, pairs, level=level)
        assert power.power(smallest, 0.02, pairs, level) == pytest.approx(0.8, abs=1e-6)
    assert power.minimum_detectable(0.02, 1) is None and power.minimum_detectable(float("nan"), 3) is None
    rng = np.random.default_rng(0)
    draws = rng.normal(power.minimum_detectable(1.0, 5), 1.0, (4000, 5))
    assert (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.02)


def test_rates_cover_none_and_all():
    assert rate(0, 10)[1:] == pytest.approx((0, 0.3085), abs=1e-4)
    assert rate(10, 10)[1:] == pytest.approx((0.6915, 1), abs=1e-4)
    with pytest.raises(ValueError, match="one run"):
        rate(0, 0)


@pytest.fixture
def demsar():
    rows = [[float(cell) for cell in line.split()] for line in DEMSAR.strip().splitlines()]
    return pd.DataFrame(rows, columns=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"])


def test_ranks_are_demsars(demsar):
    found = ranks.ranks(demsar)
    assert found.mean.round(3).to_dict() == {"C4.5+m+cf": 1.964, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5": 3.143}
    assert found.critical == pytest.approx(1.25, abs=0.005)
    assert found.p == pytest.approx(stats.friedmanchisquare(*demsar.to_numpy().T).pvalue)
    # Only the best and the worst two lie nearly so far apart: nothing is told apart by Nemenyi's test.
    assert ranks.cliques(found.mean, found.critical) == [("C4.5+m+cf", "C4.5")]


def test_ranks_at_their_edges():
    apart = pd.DataFrame([[0.9, 0.5, 0.1]] * 30, columns=list("abc"))
    found = ranks.ranks(apart)
    assert ranks.cliques(found.mean, found.critical) == [] and found.p < 1e-9
    alike = pd.DataFrame([[0.5, 0.5, 0.5]] * 6, columns=list("abc"))
    found = ranks.ranks(alike)
    assert found.p == 1.0 and ranks.cliques(found.mean, found.critical) == [("a", "c")]
    with pytest.raises(ValueError, match="two datasets"):
        ranks.ranks(alike.head(1))


def test_interquartile_mean_leaves_out_a_quarter_on_each_side():
    runs = [np.array([9.0, 1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0, -100.0])]
    assert aggregates.interquartile_mean(runs) == pytest.approx(np.mean([2, 3, 4, 5]))


def test_probability_of_improvement_is_mann_whitneys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.3, 1, 12), rng.normal(0, 1, 9)
    expected = stats.mannwhitneyu(a, b).statistic / (12 * 9)
    assert aggregates.probability_of_improvement([a], [b]) == pytest.approx(expected)
    assert aggregates.probability_of_improvement([a, b], [a, b]) == 0.5


def test_bootstrap_draws_within_settings():
    far = [np.array([0.0, 0.0]), np.array([1.0, 1.0])]
    assert aggregates.with_interval(aggregates.interquartile_mean, far) == (0.5, None, None)
    once = [np.array([0.3]), np.array([0.5])]
    assert aggregates.with_interval(aggregates.interquartile_mean, once)[1:] == (None, None)
    near = [np.array([0.1, 0.2, 0.4]), np.array([0.2, 0.3, 0.9])]
    found = aggregates.with_interval(aggregates.interquartile_mean, near)
    assert found.low < found.mean < found.high
    assert found == aggregates.with_interval(aggregates.interquartile_mean, near)
    above = [scores + 1 for scores in near]
    assert aggregates.with_interval(aggregates.probability_of_improvement, above, near) == (1.0, None, None)
