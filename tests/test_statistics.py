"""Intervals and differences against published examples, by hand, and by what they promise: coverage."""

import numpy as np
import pandas as pd
import pytest
from synthetic import course_study, default_study, write_metrics, write_predictions

from peftstudy import statistics
from peftstudy.errors import StudyError
from peftstudy.evidence import mixtures, overall, power, predictions, summaries
from peftstudy.evidence.intervals import interval
from peftstudy.evidence.paired_tests import holm, paired_difference
from peftstudy.evidence.summaries import summarise
from peftstudy.statistics import read

SLEEP_GAIN = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
"""Student (1908): hours of sleep gained, of ten patients, by one drug over another; t = 4.0621, 9 degrees."""


def test_interval_of_three_by_hand():
    # t(0.975, 2) = 4.30265; the standard error of 1, 2, 3 is 1 / sqrt(3).
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-4)


def test_one_score_has_no_interval_and_equal_scores_have_no_width():
    assert interval([0.7]) == (0.7, None, None)
    assert interval([0.5, 0.5, 0.5]) == (0.5, None, None)


@pytest.mark.parametrize("scores", [[], [0.5, float("nan")], [[0.5, 0.6]]])
def test_interval_refuses_what_has_no_mean(scores):
    with pytest.raises(ValueError, match="finite"):
        interval(scores)


def test_paired_difference_is_students_own_example():
    a = pd.Series(SLEEP_GAIN[:9])
    found = paired_difference(a, a * 0)
    mean = np.mean(SLEEP_GAIN[:9])
    half = 2.306004 * np.std(SLEEP_GAIN[:9], ddof=1) / 3
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - half, mean + half), abs=1e-5)
    assert paired_difference(pd.Series(SLEEP_GAIN), pd.Series([0.0] * 10)).p == pytest.approx(0.002833, abs=1e-6)


def test_pairing_is_by_seed_and_not_by_position():
    a = pd.Series([0.9, 0.5, 0.7], index=[2, 0, 1])
    b = pd.Series([0.4, 0.6, 0.8, 0.1], index=[0, 1, 2, 9])
    found = paired_difference(a, b)
    assert (found.pairs, found.low, found.high, found.p) == (3, None, None, None)
    assert found.mean == pytest.approx(0.1)
    with pytest.raises(ValueError, match="no seed"):
        paired_difference(a, pd.Series([0.1], index=[7]))


def test_scores_that_are_equal_by_chance_decide_nothing():
    a = pd.Series([0.5, 0.6])
    assert paired_difference(a, a) == (0.0, None, None, None, 2)


def test_holm_by_hand_and_with_gaps():
    # Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, then never smaller than the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, np.nan, 0.6]) == pytest.approx([1.0, np.nan, 1.0], nan_ok=True)
    assert len(holm([])) == 0


def test_t_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(1)
    draws = rng.normal(3.0, 2.0, size=(2000, 4))
    bounds = [interval(scores)[1:] for scores in draws]
    covered = np.mean([low <= 3.0 <= high for low, high in bounds])
    assert 0.935 < covered < 0.965


def test_bootstrap_intervals_cover_the_mean_of_skewed_scores():
    rng = np.random.default_rng(2)
    draws = rng.exponential(1.0, size=(150, 40))
    covered = np.mean([low <= 1.0 <= high for _, low, high in map(interval, draws)])
    assert 0.87 < covered < 0.99
    assert interval(draws[0]) == interval(draws[0])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return read(write_metrics(tmp_path_factory.mktemp("default") / "metrics", default_study()) / "runs.csv")


def cell(frame, method, split="90-10", backbone="bert-tiny"):
    return frame[(frame.method == method) & (frame.split == split) & (frame.backbone == backbone)].iloc[0]


def test_summary_counts_failures_and_averages_what_finished(runs):
    scores = summarise(runs)
    assert len(scores) == 8 * 5 + 8 * 2 + 3
    for method, state in [("embeddings", "diverged"), ("encoder", "failed"), ("bitfit", "missing")]:
        row = cell(scores, method)
        assert (row.asked, row.finished, row[state]) == (3, 2, 1)
    prompt = cell(scores, "prompt")
    assert (prompt.finished, prompt.collapsed) == (3, 1)
    here = runs[(runs.method == "prompt") & (runs.split == "90-10") & (runs.backbone == "bert-tiny")]
    assert prompt.test_score == pytest.approx(here.test_score.mean())
    assert scores.test_score.notna().all()


def test_a_cell_without_a_finished_run_keeps_its_row(runs):
    runs = runs.copy()
    lost = (runs.method == "lora") & (runs.split == "30-70")
    runs.loc[lost, ["status", "test_score"]] = ["failed", None]
    row = cell(summarise(runs), "lora", split="30-70")
    assert (row.asked, row.finished, row.failed) == (3, 0, 3)
    assert np.isnan(row.test_score)
    found = summaries.differences(runs, "full", {})
    assert not ((found.method == "lora") & (found.split == "30-70")).any()


def test_differences_are_to_the_reference_the_best_and_random_weights(runs):
    found = summaries.differences(runs, "full", {"bert-tiny-random": "bert-tiny"})
    here = found[(found.split == "90-10") & (found.backbone == "bert-tiny")]
    assert set(here[here.kind == "pretraining"].method) == {"full", "head", "bitfit"}
    assert (here[here.kind == "pretraining"].difference > 0.05).all()
    to_full = here[here.kind == "reference"].set_index("method")
    assert len(to_full) == 7
    assert to_full.p_holm.to_numpy() == pytest.approx(holm(to_full.p))
    assert (here[here.kind == "best"].difference <= 0).all()
    seeds = runs[(runs.split == "90-10") & (runs.backbone == "bert-tiny")].pivot(
        index="seed", columns="method", values="test_score"
    )
    assert to_full.difference["head"] == pytest.approx((seeds["head"] - seeds.full).mean())
    assert to_full.pairs["bitfit"] == 2


def test_a_reference_that_failed_gives_no_differences(runs):
    found = summaries.differences(runs[runs.method != "full"], "full", {})
    assert set(found.kind) == {"best"}
    assert set(summaries.differences(runs, None, {}).kind) == {"best"}


def test_mixtures_are_named(runs):
    assert mixtures.of(runs) == {}
    runs = runs.copy()
    runs.loc[0, "device"] = "cuda"
    assert mixtures.of(runs) == {"device": ["cpu", "cuda"]}
    tokens = runs.data_sha256[0]
    runs.loc[0, ["device", "data_sha256"]] = ["cpu", "other"]
    assert mixtures.of(runs) == {"data_sha256": sorted([tokens, "other"])}
    runs.loc[0, "data_sha256"] = tokens
    first = runs[runs.status == "finished"].index[0]
    runs.loc[first, "micro_batch_size"] = 8
    assert mixtures.of(runs) == {"micro_batch_size": ["32", "8"]}, "other parts of a batch, other dropout masks"


def test_the_best_is_sought_among_methods_that_finished_every_run(runs):
    here = summarise(runs)
    here = here[(here.split == "90-10") & (here.backbone == "bert-tiny")].copy()
    here.loc[here.method == "encoder", "test_score"] = 0.99
    assert cell(here, "encoder").finished == 2 and summaries.best(here).method == "full"
    assert summaries.best(here[here.method.isin(["encoder", "bitfit"])]).method == "encoder"
    assert summaries.best(here.head(0)) is None


def test_differences_to_the_best_are_to_a_method_that_finished_every_run(runs):
    runs = runs.copy()
    runs.loc[(runs.method == "encoder") & runs.test_score.notna(), "test_score"] += 0.2
    found = summaries.differences(runs, None, {})
    to_best = found[(found.split == "90-10") & (found.backbone == "bert-tiny")]
    assert set(to_best.reference) == {"full"}


def test_names_of_digits_stay_text(tmp_path):
    (tmp_path / "runs.csv").write_text("dataset,split,backbone,method,seed\n2024,1,007,null,3\n")
    row = read(tmp_path / "runs.csv").iloc[0]
    assert (row.dataset, row.split, row.backbone, row.method, row.seed) == ("2024", "1", "007", "null", 3)


def test_write_makes_both_files_and_the_same_bytes_twice(tmp_path):
    study = course_study()
    metrics = write_metrics(tmp_path / "metrics", study)
    answers = write_predictions(tmp_path / "runs", metrics)
    statistics.write(metrics, tmp_path / "a", study, answers)
    statistics.write(metrics, tmp_path / "b", study, answers)
    for name in (f"{name}.csv" for name in statistics.STATISTICS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert len(read(tmp_path / "a" / "scores.csv")) == 20


def test_records_of_two_protocols_are_refused(tmp_path):
    metrics = write_metrics(tmp_path / "metrics", course_study())
    runs = pd.read_csv(metrics / "runs.csv")
    runs.loc[3, "protocol"] = 2
    runs.to_csv(metrics / "runs.csv", index=False)
    with pytest.raises(StudyError, match="protocols 1, 2"):
        statistics.write(metrics, tmp_path / "out", course_study(), tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"runs\.csv: no such file"):
        read(tmp_path / "runs.csv")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder, study = tmp_path_factory.mktemp("compared"), default_study()
    runs = read(write_metrics(folder / "metrics", study) / "runs.csv")
    return runs, study, write_predictions(folder / "runs", folder / "metrics")


def test_answers_are_compared_on_the_same_seeds_and_examples(compared):
    runs, study, folder = compared
    found = predictions.compare(runs, study, folder)
    row = cell(found, "lora")
    right = {}
    for method in ("lora", "full"):
        tables = [pd.read_parquet(folder / f"libraries/90-10/bert-tiny/{method}/seed-{s}/predictions.parquet")
                  for s in (0, 1, 2)]  # fmt: skip
        right[method] = np.array([table.label == table.predicted for table in tables])
    only = (right["lora"] & ~right["full"]).sum(axis=1)
    assert (row.seeds, row.examples, row.only_method) == (3, 600, only.mean())
    assert row.only_reference - row.only_method == pytest.approx(
        600 * (cell(runs, "full").test_score - cell(runs, "lora").test_score), abs=6
    )
    assert cell(found, "bitfit").seeds == 2 and cell(found, "head").p_holm < 0.001
    assert not (found.method == "full").any() and (found.p <= found.p_holm).all()


def test_lost_predictions_are_named(compared, tmp_path):
    with pytest.raises(StudyError, match=r"seed-0/predictions\.parquet: no such file"):
        predictions.compare(*compared[:2], tmp_path)


def test_graded_answers_have_a_permutation_test_and_no_mcnemar():
    rng = np.random.default_rng(0)
    a = [rng.random(80) for _ in range(3)]
    found = predictions._tests(a, [x - 0.1 for x in a])
    assert "mcnemar_found" not in found and found["p"] < 0.001


def test_lost_and_collapsed_runs_have_a_rate_and_a_score_without_them(runs):
    row = cell(summarise(runs), "prompt")
    sound = runs[(runs.method == "prompt") & (runs.split == "90-10") & (runs.backbone == "bert-tiny") & ~runs.collapsed]
    assert row.sound_score == pytest.approx(sound.test_score.mean()) and row.sound_score > row.test_score + 0.1
    # One of three, by Clopper and Pearson.
    assert (row.lost_low, row.lost_high) == pytest.approx((0.0084, 0.9057), abs=1e-4)
    assert cell(summarise(runs), "lora").lost_low == 0


def test_optimism_is_the_best_epoch_on_test_minus_the_reported_one(tmp_path):
    runs = read(write_metrics(tmp_path, course_study(), flaws=False) / "runs.csv")
    assert summarise(runs).optimism.dropna().to_numpy() == pytest.approx(0.005)
    assert summarise(runs.assign(best_epoch_score=None)).optimism.isna().all()


def test_what_separating_takes_is_that_of_the_paired_differences(runs):
    found = summaries.differences(runs, "full", {})
    row = cell(found[found.kind == "reference"], "lora")
    seeds = runs[(runs.split == "90-10") & (runs.backbone == "bert-tiny")].pivot(
        index="seed", columns="method", values="test_score"
    )
    gaps = seeds.lora - seeds.full
    level = 0.05 * row.p / row.p_holm
    assert level < 0.05
    assert row.seeds_needed == power.seeds_to_separate(gaps.mean(), gaps.std(), level=level)
    assert row.detectable == pytest.approx(power.minimum_detectable(gaps.std(), 3, level=level))
    assert row.improvement == np.mean([np.sign(a - b) / 2 + 0.5 for a in seeds.lora for b in seeds.full])


def test_what_three_seeds_would_see_they_do_not_miss(runs):
    """A difference beyond what is visible is found after the adjustment, too: one level is behind both."""
    found = summaries.differences(runs, "full", {}).dropna(subset=["detectable"])
    seen = found[(found.pairs == 3) & (found.difference.abs() > 1.2 * found.detectable)]
    assert len(seen) and (seen.p_holm < 0.05).all()


def test_pairs_are_counted_beside_the_runs_that_were_asked_for(runs):
    found = summaries.differences(runs, "full", {})
    short = found[found.pairs < found.asked]
    assert len(short) and (found.asked == 3).all()


def test_all_settings_together_are_those_that_every_method_finished(runs):
    study = default_study()
    found = overall.overall(runs, study)
    assert set(found.settings) == {5 + 2} and set(found.method) == set(study.methods)
    row = found[found.method == "head"].iloc[0]
    assert row.iqm_low < row.iqm < row.iqm_high and row.improvement == 0
    lost = runs.assign(status=runs.status.where(runs.method != "lora", "failed"))
    assert len(overall.overall(lost, study)) == 0
    assert len(overall.ranked(runs, study)) == 0
