"""How many examples it takes: by hand, where the truth is known, and at the edges."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from synthetic import default_study, write_metrics

from peftstudy import statistics
from peftstudy.evidence import efficiency, places
from peftstudy.evidence.efficiency import crossing
from peftstudy.evidence.intervals import interval
from peftstudy.report import efficiency_tables, latex

SIZES = np.array([100.0, 200.0, 400.0, 800.0])


def test_a_crossing_lies_on_the_line_between_two_sizes():
    found = crossing(SIZES, np.array([[-3.0, -1.0, 1.0, 2.0]] * 2))
    assert found.state == "rises" and found.examples == pytest.approx(200 * 2**0.5)
    assert crossing(SIZES, np.array([[3.0, 1.0, -1.0, -2.0]])).state == "falls"
    assert crossing(SIZES, -np.array([[-3.0, -1.0, 1.0, 2.0]] * 2)).examples == found.examples


def test_the_last_crossing_counts_and_none_is_said():
    assert crossing(SIZES, np.array([[1.0, -1.0, -1.0, 1.0]])).examples == pytest.approx(400 * 2**0.5)
    assert crossing(SIZES, np.array([[1.0, 2.0, 3.0, 4.0]]))[:2] == ("above", None)
    assert crossing(SIZES, np.array([[-1.0, -2.0, -3.0, -4.0]]))[:2] == ("below", None)


def test_a_tie_is_no_overtaking():
    """Methods that collapse with few examples are level there to the last digit."""
    assert crossing(SIZES, np.array([[0.0, 0.0, -1.0, -2.0]] * 2))[:2] == ("below", None)
    assert crossing(SIZES, np.array([[1.0, 0.0, 0.0, -2.0]] * 2))[:2] == ("falls", pytest.approx(400))
    assert crossing(SIZES, np.array([[1.0, 0.0, 2.0, 0.0]] * 2))[:2] == ("above", None)
    assert crossing(SIZES, np.full((2, 4), 0.1 + 0.2 - 0.3))[:2] == ("level", None)


def test_a_dataset_s_own_sizes_are_its_curve():
    """What others are cut into is no matter."""
    block = {"source": "docstrings", "task": "classification", "text": "text", "label": "label"}
    sizes, cuts = ["size-300", "size-900", "size-2700"], ["90-10", "30-70"]
    study = default_study(datasets={"big": {**block, "splits": cuts}, "small": {**block, "splits": sizes}})
    assert places.main_splits(study, "big") == cuts and places.main_splits(study, "small") == ["size-300"]
    assert places.sized(study, "big") == ["90-10"] and places.sized(study, "small") == sizes
    frame = pd.DataFrame({"dataset": ["big", "small", "small"], "split": ["size-300", "size-300", "size-900"]})
    assert places.on_splits(frame, study, places.main_splits).index.tolist() == [1]
    assert places.on_splits(frame[:0], study, places.main_splits).columns.tolist() == ["dataset", "split"]


def test_the_interval_is_the_sizes_whose_t_interval_holds_zero():
    values = np.array([[-3.0, -1.2, 1.0, 2.0], [-3.1, -0.8, 1.1, 2.1], [-2.9, -1.0, 0.9, 1.9]])
    found = crossing(SIZES, values)
    for size, inside in [(found.low * 1.02, True), (found.low * 0.98, False), (found.high * 0.98, True),
                         (found.high * 1.02, False)]:  # fmt: skip
        there = [np.interp(np.log(size), np.log(SIZES), row) for row in values]
        _, low, high = interval(there)
        assert (low <= 0 <= high) == inside
    assert found.low < found.examples < found.high


def test_an_interval_that_reaches_the_end_of_the_sweep_is_open():
    wide = np.random.default_rng(0).normal(0, 5, (3, 4))
    assert crossing(SIZES, wide)[2:] == (-np.inf, np.inf)
    assert crossing(SIZES, wide[:1])[2:] == (None, None)


@pytest.mark.parametrize("seeds", [3, 10])
def test_the_interval_holds_the_true_crossing_as_often_as_it_says(seeds):
    rng = np.random.default_rng(1)
    truth = np.log2(SIZES / 250)
    found = [crossing(SIZES, truth + rng.normal(0, 0.4, (seeds, 4))) for _ in range(1000)]
    assert 0.93 <= np.mean([f.low is not None and f.low <= 250 <= f.high for f in found]) <= 0.985


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return statistics.read(write_metrics(tmp_path_factory.mktemp("made") / "metrics", default_study()) / "runs.csv")


def test_a_sweep_says_who_overtakes_and_what_is_enough(runs):
    found = efficiency.efficiency(runs, default_study())
    assert set(found.backbone) == {"bert-tiny"}  # the other one has two splits, one of them on that test part
    beside_full = found[(found.kind == "overtakes") & (found.reference == "full")]
    assert set(beside_full.method) == set(default_study().methods) - {"full"}
    assert len(found[found.kind == "overtakes"]) == 8 * 7 / 2
    full = found[(found.kind == "reaches") & (found.method == "full")].iloc[0]
    assert full.state == "rises" and full.low < full.examples < full.high
    scores = runs[(runs.method == "full") & (runs.backbone == "bert-tiny")].groupby("split").test_score.mean()
    assert scores["size-900"] < 0.95 * scores["90-10"] < scores["size-2700"] and 810 < full.examples < 2430
    head = found[(found.method == "head") & (found.reference == "full")]
    assert set(head.state) == {"below"} and head.low.isna().all()


def test_a_better_method_at_small_sizes_is_overtaken(runs):
    runs = runs.copy()
    small = (runs.method == "lora") & runs.split.isin(["size-300", "size-900"])
    runs.loc[small, "test_score"] += 0.1
    row = efficiency.efficiency(runs, default_study()).query("kind == 'overtakes' and method == 'lora'").iloc[0]
    assert row.state == "falls" and 810 < row.examples < 2430
    assert efficiency_tables.cell(pd.DataFrame([row]))[0] == f"below from {round(row.examples):,}".replace(",", "{,}")


def test_without_a_sweep_there_are_no_rows_and_without_a_reference_pairs_alone(runs):
    assert len(efficiency.efficiency(runs[runs.split == "90-10"], default_study())) == 0
    without = efficiency.efficiency(runs, default_study(reference=None))
    assert set(without.kind) == {"overtakes"} and len(without) == 8 * 7 / 2
    lost = runs.assign(status=runs.status.where(runs.method != "full", "failed"))
    left = efficiency.efficiency(lost, default_study())
    assert set(left.kind) == {"overtakes"} and "full" not in {*left.method, *left.reference}


def test_the_table_lists_the_pairs_that_change_places_and_counts_the_others(runs):
    runs, study = runs.copy(), default_study()
    small = (runs.method == "houlsby") & runs.split.isin(["size-300", "size-900"])
    runs.loc[small, "test_score"] -= 0.2  # below prompt and bitfit there, and at its place after
    found = efficiency.efficiency(runs, study)
    text = efficiency_tables.crossings(SimpleNamespace(efficiency=found, runs=runs), study)
    turned = found[(found.kind == "overtakes") & found.examples.notna()]
    assert f"{len(turned)} of 28 pairs change places" in text
    lines = [line for line in text.splitlines() if line.startswith("houlsby &")]
    assert {line.split(" & ")[1] for line in lines} >= {"prompt", "bitfit"}
    row = turned[(turned.method == "prompt") & (turned.reference == "houlsby")].iloc[0]
    assert row.state == "falls" and f"houlsby & prompt & {latex.count(row.examples)} & [" in text
