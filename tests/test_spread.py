"""Where the spread comes from: by hand, by simulation, and in studies with and without several draws of the data."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from synthetic import PRETRAIN, default_study, write_metrics

from peftstudy import seeds, statistics
from peftstudy.evidence import apart, components, intervals, overall, spread
from peftstudy.evidence.spread import two_way
from peftstudy.report import spread_tables
from peftstudy.specs import to_json

BLOCK = {"source": "docstrings", "task": "classification", "text": "text", "label": "library"}
ONE = {"bert-tiny": {"pretrain": PRETRAIN | {"family": "bert"}}}
LABELS = [str(seed) for seed in seeds.of({"initialization": [0, 1, 2, 3], "order": [0, 1, 2]})]


def drawn(*names, **changes):
    blocks = {name: BLOCK | ({"data_seed": number} if number else {}) for number, name in enumerate(names)}
    return default_study(datasets=blocks, splits=["90-10"], **changes)


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
                             "test_examples": 100, "task": "classification"})  # fmt: skip
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
    assert found.over_seeds.to_numpy() == pytest.approx(np.std(list(seed.values()), ddof=1))
    assert found.rest.to_numpy() == pytest.approx(0, abs=1e-6)
    # All methods were given the same.
    assert found.common.to_numpy() == pytest.approx(1)
    own = runs.assign(test_score=0.5 + np.random.default_rng(2).normal(0, 0.1, len(runs)))
    assert (spread.spread(own, study).common < 0.5).all()


def test_a_single_draw_has_the_spread_over_seeds_alone(runs):
    found = spread.spread(runs[runs.dataset == "first"], drawn("first"))
    assert found[["draw", "over_seeds", "rest"]].isna().all(axis=None)
    row = found[(found.method == "lora") & (found.backbone == "bert-tiny")].iloc[0]
    here = runs[(runs.dataset == "first") & (runs.method == "lora") & (runs.backbone == "bert-tiny")]
    assert row.sd == pytest.approx(here.test_score.std())
    p = here.test_score
    assert row.test_part == pytest.approx(((p * (1 - p)).mean() / 600) ** 0.5)
    alike = spread.spread(runs.assign(test_score=0.5), drawn("first"))
    assert (alike.sd == 0).all() and alike.low.isna().all()
    assert spread.spread(runs.assign(metric="f1"), drawn("first")).test_part.isna().all()
    by_words = spread.spread(runs.assign(task="tagging"), drawn("first"))
    assert by_words.test_part.isna().all(), "a text has many words, and they are not drawn one by one"


def test_a_lost_run_is_one_less(runs):
    study = drawn("first", "second", "third")
    lost = (runs.dataset == "second") & (runs.seed == 1)
    found = spread.spread(runs[~lost], study)
    cells = dict(iter(runs[~lost].groupby(["split", "backbone", "method"])))
    assert len(found) == 8 * 2
    for row in found.itertuples():
        group = cells[row.split, row.backbone, row.method]
        within = group.test_score - group.groupby("dataset").test_score.transform("mean")
        assert len(group) == 8 and row.sd == pytest.approx(((within**2).sum() / (8 - 3)) ** 0.5)


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
    found = overall.ranked(copies, other)
    assert set(found.datasets) == {6}
    # Of backbones with random weights every method's scores are the other way round, and far apart.
    twins = copies.assign(backbone="bert-tiny-random", test_score=10 - 20 * copies.test_score)
    pd.testing.assert_frame_equal(overall.ranked(pd.concat([copies, twins]), other), found)


def test_a_data_seed_of_its_own_changes_that_dataset_s_jobs_alone():
    study = drawn("first", "second", data_seed=5)
    assert [study.data_seed_of(name) for name in study.datasets] == [5, 1]
    assert "data_seed" not in json.loads(to_json(study.datasets["first"]))


def crossed(**changes):
    return drawn("first", seeds={"initialization": [0, 1, 2, 3], "order": [0, 1, 2]}, methods={"full": {}},
                 backbones=ONE, reference=None, **changes)  # fmt: skip


def scored(scores, labels=LABELS, dataset="first"):
    return pd.DataFrame({
        "dataset": dataset, "split": "90-10", "backbone": "bert-tiny", "method": "full", "seed": labels,
        "status": "finished", "metric": "accuracy", "test_score": scores, "test_examples": 100,
        "task": "classification",
    })  # fmt: skip


def of_a_grid(rng, first, then, rest, shape=(4, 3)):
    return rng.normal(0, first, (shape[0], 1)) + rng.normal(0, then, (1, shape[1])) + rng.normal(0, rest, shape)


def test_components_of_a_whole_grid_are_those_of_the_analysis_of_variance():
    values = np.random.default_rng(0).normal(size=(4, 3))
    rows, columns = np.indices(values.shape).reshape(2, -1)
    found = components.components(values.ravel(), rows, columns)
    mean = [3 * values.mean(axis=1).var(ddof=1), 4 * values.mean(axis=0).var(ddof=1)]
    rest = (values.var(ddof=1) * 11 - 3 * mean[0] - 2 * mean[1]) / 6
    assert found == pytest.approx([(mean[0] - rest) / 3, (mean[1] - rest) / 4, rest])


def test_components_of_crossed_gauges_are_those_that_were_published():
    """Twenty parts, each measured by three operators; two repetitions averaged (no third factor).

    Source: Montgomery, Design and Analysis of Experiments, the measurement systems capability study among its random
    factors.

    The mean squares of the averages are half of those published for the measurements: parts 62.391, operators 1.308,
    parts by operators 0.712.
    """
    published = {"parts": 62.391 / 2, "operators": 1.308 / 2, "rest": 0.712 / 2}
    first, second, both = np.zeros((20, 3)), np.zeros((20, 3)), np.zeros((20, 3))
    first += contrast(20)[:, None] * (published["parts"] * 19 / 3) ** 0.5
    second += contrast(3)[None, :] * (published["operators"] * 2 / 20) ** 0.5
    both += np.outer(contrast(20), contrast(3)) * (published["rest"] * 38) ** 0.5
    rows, columns = np.indices((20, 3)).reshape(2, -1)
    found = components.components((first + second + both).ravel(), rows, columns)
    # As published: sigma^2 of parts 10.2798, of operators 0.0149; the interaction's is negative there beside the error.
    assert found[0] == pytest.approx(10.2798, abs=1e-3) and found[1] == pytest.approx(0.0149, abs=1e-4)


def contrast(size):
    """Return numbers of mean 0 whose squares add up to 1."""
    values = np.arange(size) - (size - 1) / 2
    return values / np.linalg.norm(values)


def test_components_are_right_on_average_also_where_runs_are_missing():
    rng = np.random.default_rng(1)
    kept = np.array([number for number in range(12) if number not in (1, 7, 9)])
    rows, columns = (where.ravel()[kept] for where in np.indices((4, 3)))
    values = np.array([of_a_grid(rng, 3, 2, 1).ravel()[kept] for _ in range(4000)]).T
    assert components.components(values, rows, columns).mean(axis=1) == pytest.approx([9, 4, 1], rel=0.08)


def test_what_cannot_be_told_apart_has_no_components():
    with pytest.raises(np.linalg.LinAlgError):
        components.components(np.arange(4.0), [0, 1, 2, 3], [0, 0, 1, 1])
    lonely = ["0", "i1-o0", "i2-o3", "3"]
    assert components.is_crossed(lonely) and components.spread(np.arange(4.0), lonely) is None
    assert intervals.over_seeds(pd.Series(np.arange(4.0), lonely)) == (1.5, None, None)


def test_a_negative_estimate_is_zero_and_said_so():
    grid = np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [0.5, 0.5, 0.4], [0.4, 0.5, 0.7]])
    row = spread.spread(scored(0.5 + grid.ravel() / 10), crossed()).iloc[0]
    assert row.initialization == row.order == 0 and row.below_zero == "initialization, order"
    table = spread_tables.table(SimpleNamespace(spread=spread.spread(scored(grid.ravel()), crossed())), crossed())
    assert table.count("& (0.000) &") == 2 and "(0.000): a negative estimate, taken for 0" in table


def test_crossed_seeds_say_which_moves_the_scores():
    rng = np.random.default_rng(0)
    found = spread.spread(scored(0.7 + of_a_grid(rng, 0.1, 1e-6, 1e-5).ravel()), crossed())
    row = found.iloc[0]
    assert row.initialization_low < 0.1 < row.initialization_high and row.order < 1e-4
    assert apart.largest(row) == ("initialization", True)
    assert (
        "the initialisation in 1. Its interval lies above those of the other two for full"
        in spread_tables.largest_parts(found, crossed())
    )
    mixed = spread.spread(scored(0.7 + of_a_grid(rng, 0.1, 0.09, 0.08).ravel()), crossed())
    assert "other two in none, so that" in spread_tables.largest_parts(mixed, crossed())


def test_a_missing_run_leaves_the_components_and_takes_the_intervals():
    scores = 0.7 + of_a_grid(np.random.default_rng(0), 0.1, 0.1, 0.01).ravel()
    row = spread.spread(scored(scores[1:], LABELS[1:]), crossed()).iloc[0]
    assert row.initialization > 0 and np.isnan(row.initialization_low)


def test_scores_that_are_all_alike_have_no_largest_component():
    found = spread.spread(scored(np.full(12, 0.3)), crossed())
    assert found.sd.tolist() == pytest.approx([0]) and found.initialization.isna().all()
    assert "No cell has scores that differ" in spread_tables.largest_parts(found, crossed())


def test_too_few_levels_are_a_sentence_and_no_number():
    few = drawn("first", seeds={"initialization": [0, 1], "order": [0, 1, 2]}, methods={"full": {}}, backbones=ONE,
                reference=None)  # fmt: skip
    found = spread.spread(scored(0.5 + np.arange(6) / 100, [str(seed) for seed in few.seeds]), few)
    assert found[["initialization", "order", "rest"]].isna().all(axis=None) and found.sd.notna().all()
    table = spread_tables.table(SimpleNamespace(spread=found), few)
    assert "that takes 3 or more of each, and the study crosses 2 with 3." in table
    assert "initialisation & interval" not in table


def test_draws_of_the_data_are_told_from_initialisation_and_order():
    rng, study = np.random.default_rng(0), drawn("a", "b", "c", "d", seeds={"initialization": [0, 1, 2],
                                                 "order": [0, 1, 2]}, methods={"full": {}}, backbones=ONE,
                                                 reference=None)  # fmt: skip
    labels, variances = [str(seed) for seed in study.seeds], []
    for _ in range(300):
        first = rng.normal(0, 0.03, (3, 1))
        frames = [
            scored((0.7 + rng.normal(0, 0.05) + first + of_a_grid(rng, 0.01, 0.02, 0.01, (3, 3))).ravel(), labels, name)
            for name in study.datasets
        ]
        row = apart.parts(pd.concat(frames))
        variances.append([row[name] ** 2 for name in ("draw", "initialization", "order", "rest")])
    found = np.mean(variances, axis=0)
    assert found == pytest.approx([0.05**2, 0.03**2 + 0.01**2, 0.02**2, 0.01**2], rel=0.15)
    table = spread_tables.table(SimpleNamespace(spread=spread.spread(pd.concat(frames), study)), study)
    assert "initialisation & order & rest & draw & test part" in table and r"\multicolumn{7}" in table
