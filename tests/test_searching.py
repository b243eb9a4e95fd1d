"""Searches: what their trials are worth, whether they are equal, and how ranges become rates."""

import doctest
from itertools import product

import numpy as np
import pandas as pd
import pytest
from synthetic import default_study

from peftstudy import searching
from peftstudy.searching import at_edge, expected_best, fairness

RATES = [1e-3, 3e-3, 1e-2]


def test_doctests():
    assert doctest.testmod(searching).failed == 0


def test_expected_best_is_the_mean_over_all_draws_with_replacement():
    scores = [0.5, 0.1, 0.9, 0.9]
    for k, found in enumerate(expected_best(scores), 1):
        assert found == pytest.approx(np.mean([max(draw) for draw in product(scores, repeat=k)]))
    assert (np.diff(expected_best(scores)) > 0).all()
    assert expected_best([0.3]).tolist() == [0.3]


def searches(chosen):
    return pd.DataFrame(
        {"dataset": "d", "split": "90-10", "backbone": "b", "method": method, "learning_rate": rate,
         "chosen": rate == chosen, "validation_score": 0.5}
        for method in ("full", "lora") for rate in RATES
    )  # fmt: skip


def test_a_rate_at_the_edge_is_flagged():
    assert not at_edge(searches(3e-3)) and at_edge(searches(1e-3)) and at_edge(searches(1e-2))
    study = default_study(methods={"full": {"learning_rate": RATES}, "lora": {"learning_rate": RATES}})
    said = fairness(searches(3e-3), study)
    assert said == (
        "Every method had the same number of trials, 3 for each cell. No chosen rate lies at the edge of its range."
    )
    assert "In 2 of 2 cells the chosen rate lies at the edge of its range (full and lora)" in fairness(
        searches(1e-2), study
    )


def test_an_unequal_search_is_said():
    study = default_study(methods={"full": {"learning_rate": RATES}, "lora": {"learning_rate": RATES}, "head": {}})
    said = fairness(searches(3e-3), study)
    assert r"\textbf{The search was not equal}: trials were full and lora 3; head 1." in said
    assert fairness(searches(3e-3).head(0), default_study(methods={"full": {}})).startswith("No method searched")


def test_a_range_becomes_rates_at_the_same_quantiles_for_all_methods():
    ranges = {"full": {"low": 1e-5, "high": 1e-3, "trials": 5}, "lora": {"low": 1e-4, "high": 1e-2, "trials": 5}}
    study = default_study(methods={name: {"learning_rate": block} for name, block in ranges.items()})
    full, lora = (study.methods[name].learning_rate for name in ("full", "lora"))
    assert len(set(full)) == 5 and all(1e-5 <= rate <= 1e-3 for rate in full)
    assert np.array(lora) / np.array(full) == pytest.approx(10, rel=0.02)
    assert study == default_study(methods={name: {"learning_rate": block} for name, block in ranges.items()})
    other = default_study(methods={"full": {"learning_rate": ranges["full"]}},
                          reference=None, search={"seed": 1})  # fmt: skip
    assert other.methods["full"].learning_rate != full
