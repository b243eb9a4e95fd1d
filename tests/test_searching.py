"""Searches: what their trials are worth, whether they are equal, and how ranges become rates."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from synthetic import default_study

from peftstudy import sampling, searching
from peftstudy.report.searches import SAID, fairness
from peftstudy.searching import at_edge, expected_best
from peftstudy.specs import Range, RunSpec

RATES = [1e-3, 3e-3, 1e-2]


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


RANGE = {"low": 1e-4, "high": 1e-1, "trials": 9}


def peaked(rate):
    """A trial whose score falls with the distance of its rate from 3e-3; far above, it diverges."""
    score = None if rate > 3e-2 else 0.9 - 0.2 * abs(np.log10(rate / 3e-3))
    return {"learning_rate": rate, "validation_score": score, "validation_loss": None if score is None else 1 - score}


def sampled(sampler, seed=0, **block):
    study = default_study(
        methods={"full": {"learning_rate": RANGE | block}}, reference=None, search={"sampler": sampler, "seed": seed}
    )
    return study, sampling.tried(study.methods["full"].learning_rate, study.search, peaked)


def test_every_sampler_of_the_schema_takes_rates_of_the_range_and_the_same_again():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    assert schema["properties"]["search"]["properties"]["sampler"]["enum"] == list(SAID)
    for sampler in SAID:
        study, found = sampled(sampler)
        rates = [trial["learning_rate"] for trial in found]
        assert len(rates) == searching.trials(study, "full") == 9 and len(set(rates)) > 6
        assert all(1e-4 <= rate <= 1e-1 for rate in rates)
        assert sampled(sampler)[1] == found != sampled(sampler, seed=1)[1]
        assert sampling.best(found)["validation_score"] > 0.8


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_learns_from_its_trials(sampler):
    """After those at random, its rates lie nearer to the best one than random ones do, on average over seeds."""
    _, learnt = zip(*(sampled(sampler, seed, trials=24) for seed in range(8)), strict=True)
    distances = np.array([[abs(np.log10(trial["learning_rate"] / 3e-3)) for trial in found] for found in learnt])
    first = sampling.drawn_first(24)
    assert distances[:, first:].mean() < 0.85 * distances[:, :first].mean()


def test_a_rate_that_comes_again_counts_and_is_not_tried_again():
    study, _ = sampled("tpe")
    narrow, asked = Range(1.001e-3, 1.004e-3, 6), []
    found = sampling.tried(narrow, study.search, lambda rate: asked.append(rate) or peaked(rate))
    assert len(found) == 6 and {trial["learning_rate"] for trial in found} == {1e-3} and asked == [1e-3]


def test_trials_that_diverged_are_the_worst():
    lost = {"learning_rate": 1e-1, "validation_score": None, "validation_loss": None}
    zero = {"learning_rate": 1e-2, "validation_score": 0.0, "validation_loss": 2.0}
    below = {"learning_rate": 1e-3, "validation_score": -0.1, "validation_loss": 1.0}
    assert sampling.best([lost, below, zero]) == zero and sampling.best([lost, below]) == below
    sure = zero | {"validation_loss": 0.0}
    assert sampling.best([zero, sure]) == sure, "a loss of 0 is the lowest one"


def test_a_request_with_a_range_is_read_as_it_was_written_and_older_ones_keep_their_name():
    study, _ = sampled("tpe")
    spec = study.runs()[0]
    assert RunSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec
    assert spec.training.learning_rate == Range(1e-4, 1e-1, 9) and spec.search.sampler == "tpe"
    assert "sampler" not in default_study().runs()[0].as_dict()["search"]
