"""Where the spread comes from: by hand, by simulation, and in studies with and without several draws of the data."""

import doctest
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from synthetic import default_study, write_metrics

from peftstudy import statistics
from peftstudy.evidence import overall, spread
from peftstudy.evidence.spread import two_way
from peftstudy.specs import to_json

BLOCK = {"source": "docstrings", "task": "classification", "text": "text", "label": "library"}


def drawn(*names, **changes):
    blocks = {name: BLOCK | ({"data_seed": number} if number else {}) for number, name in enumerate(names)}
    return default_study(datasets=blocks, splits=["90-10"], **changes)


def test_doctests():
    assert doctest.testmod(spread).failed == 0


def test_components_are_those_of_a_worked_analysis_of_variance():
    # Mean squares by hand: rows 6 (2 degrees), columns 12 (1 degree), rest 1.5 (2 degrees).
    values = np.array([[1.0, 4.0], [3.0, 5.0], [3.0, 8.0]])
    rows = 2 * values.mean(axis=1).var(ddof=1)
    columns = 3 * values.mean(axis=0).var(ddof=1)
    total = values.var(ddof=1) * 5
    rest = (total - 2 * rows - columns) / 2
    found = two_way(values)
    assert (found.rest, found.rows) == pytest.approx((rest, (rows - rest) / 2))
    assert found.columns == pytest.approx((columns - rest) / 3)


def test_components_are_right_on_average():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(1500):
        rows, columns = rng.normal(0, 3, (4, 1)), rng.normal(0, 2, (1, 5))
        found.append(two_way(rows + columns + rng.normal(0, 1, (4, 5))))
    assert np.mean(found, axis=0) == pytest.approx([9, 4, 1], rel=0.08)


def test_no_component_is_negative():
    assert two_way(np.array([[0.0, 1.0], [1.0, 0.0]])) == (0.0, 0.0, 1.0)


def test_the_interval_of_the_spread_holds_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    study, held = drawn("first", methods={"full": {}}, reference=None), 0
    for _ in range(150):
        scores = rng.normal(0.8, 0.02, 3)
        runs = pd.DataFrame({"dataset": "first", "split": "90-10", "backbone": "bert-tiny", "method": "full",
                             "seed": [0, 1, 2], "status": "finished", "metric": "accuracy", "test_score": scores,
                             "test_examples": 100})  # fmt: skip
        row = spread.spread(runs, study).iloc[0]
        held += row.low <= 0.02 <= row.high
    assert 0.9 <= held / 150 <= 0.99


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "metrics"
    return statistics.read(write_metrics(folder, drawn("first", "second", "third"), flaws=False) / "runs.csv")


def test_draws_of_one_dataset_are_told_from_seeds(runs):
    study = drawn("first", "second", "third")
    assert spread.draws(study) == {"first": ["first", "second", "third"]}
    rng = np.random.default_rng(1)
    draw = dict(zip(study.datasets, rng.normal(0, 0.1, 3), strict=True))
    seed = dict(enumerate(rng.normal(0, 0.03, 3)))
    runs = runs.assign(test_score=0.5 + runs.dataset.map(draw) + runs.seed.map(seed))
    found = spread.spread(runs, study)
    assert len(found) == 8 * 2 and set(found.draws) == {3} and set(found.dataset) == {"first"}
    assert found.draw.to_numpy() == pytest.approx(np.std(list(draw.values()), ddof=1))
    assert found.seed.to_numpy() == pytest.approx(np.std(list(seed.values()), ddof=1))
    assert found.rest.to_numpy() == pytest.approx(0, abs=1e-6)
    # All methods were given the same.
    assert found.common.to_numpy() == pytest.approx(1)
    own = runs.assign(test_score=0.5 + np.random.default_rng(2).normal(0, 0.1, len(runs)))
    assert (spread.spread(own, study).common < 0.5).all()


def test_a_single_draw_has_the_spread_over_seeds_alone(runs):
    found = spread.spread(runs[runs.dataset == "first"], drawn("first"))
    assert found[["draw", "seed", "rest"]].isna().all(axis=None)
    row = found[(found.method == "lora") & (found.backbone == "bert-tiny")].iloc[0]
    here = runs[(runs.dataset == "first") & (runs.method == "lora") & (runs.backbone == "bert-tiny")]
    assert row.sd == pytest.approx(here.test_score.std())
    p = here.test_score
    assert row.test_part == pytest.approx(((p * (1 - p)).mean() / 600) ** 0.5)
    alike = spread.spread(runs.assign(test_score=0.5), drawn("first"))
    assert (alike.sd == 0).all() and alike.low.isna().all()
    assert spread.spread(runs.assign(metric="f1"), drawn("first")).test_part.isna().all()


def test_datasets_that_differ_in_more_are_no_draws_of_one():
    study = default_study(datasets={"first": BLOCK, "second": BLOCK | {"data_seed": 1, "examples": 50}})
    assert spread.draws(study) == {"first": ["first"], "second": ["second"]}


def test_budgets_on_one_dataset_are_one_dataset_and_no_draws_of_it():
    plain = default_study()
    only = replace(plain.datasets["libraries"], name="all")
    short = replace(only, name="short", training=(("seconds", 5),), max_length=9)
    study = replace(plain, datasets={"all": only, "short": short})
    assert list(spread.draws(study)) == ["all", "short"] and list(spread.draws(study, shortened=True)) == ["all"]
    assert overall.rankable(study) == 1
    part = replace(only, name="part", source="other", methods=("full", "lora"))
    assert overall.rankable(replace(plain, datasets={"all": only, "part": part})) == 1


def test_draws_are_one_dataset_among_those_that_are_ranked(runs):
    runs = runs.assign(split="90-10")
    many = [f"d{number}" for number in range(6)]
    copies = pd.concat([runs[runs.dataset == "first"].assign(dataset=name) for name in many])
    assert len(overall.ranked(copies, drawn(*many))) == 0
    other = default_study(datasets={name: BLOCK | {"examples": 30 + i} for i, name in enumerate(many)},
                          splits=["90-10"])  # fmt: skip
    assert set(overall.ranked(copies, other).datasets) == {6}


def test_a_data_seed_of_its_own_changes_that_dataset_s_jobs_alone():
    study = drawn("first", "second", data_seed=5)
    assert [study.data_seed_of(name) for name in study.datasets] == [5, 1]
    assert "data_seed" not in json.loads(to_json(study.datasets["first"]))
