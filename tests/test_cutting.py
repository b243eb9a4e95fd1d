"""Jobs are cut by what finished runs took; those that have begun stay as they are."""

from collections import Counter

import pytest
from synthetic import default_study

from peftstudy import cutting, estimates, files

SIX_SECONDS = {"setup_seconds": 1.0, "training_seconds": 4.0, "evaluation_seconds": 1.0}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results/default"


def started(monkeypatch, results, job_minutes=1.0):
    """Return the study as a new process finds it."""
    monkeypatch.setattr(estimates, "_sampled", {})
    return cutting.decided(default_study(workflow={"job_minutes": job_minutes, "run_minutes": 1}), results)


def finish(results, run, measured=SIX_SECONDS):
    record = {"asked": run.as_dict(), "status": "finished", "measured": measured}
    files.write_sealed(results / "runs" / run.path / "record.json", record)


def sizes(study):
    """Return how many packs there are of each backbone, split and size."""
    return Counter((pack.backbone, pack.split, len(pack.runs)) for pack in study.packs())


def test_without_minutes_nothing_is_decided(results):
    study = default_study()
    assert cutting.decided(study, results) is study is cutting.kept(study, results)
    assert not results.exists()


def test_what_has_not_begun_is_cut_by_what_finished_runs_took(results, monkeypatch):
    study = started(monkeypatch, results)
    assert all(size == 1 for _, _, size in sizes(study))
    assert not results.exists(), "a guess is not kept"
    first = study.runs()[0]
    finish(results, first)
    again = started(monkeypatch, results)
    found = sizes(again)
    assert found[first.backbone, first.split, 1] == 24, "what has begun stays"
    for split in study.splits[1:]:
        assert found[first.backbone, split, 10] == 2 and found[first.backbone, split, 4] == 1
    assert all(size == 1 for backbone, _, size in found if backbone != first.backbone), "of these nothing is known"
    assert again.runs() == study.runs()
    plain = default_study(workflow={"job_minutes": 1.0, "run_minutes": 1})
    assert cutting.kept(plain, results).packs() == again.packs(), "each job finds the packs of the start"


def test_a_dry_run_keeps_nothing(results, monkeypatch):
    finish(results, started(monkeypatch, results).runs()[0])
    monkeypatch.setattr(estimates, "_sampled", {})
    study = default_study(workflow={"job_minutes": 1.0, "run_minutes": 1})
    assert cutting.decided(study, results, is_dry=True).sizes
    assert not (results / "state").exists()


def test_what_begins_keeps_its_cut_until_the_study_asks_for_another(results, monkeypatch):
    first, *others = started(monkeypatch, results).runs()
    finish(results, first)
    cut = started(monkeypatch, results)
    slow = next(run for run in others if run.backbone == first.backbone and run.split != first.split)
    finish(results, slow, SIX_SECONDS | {"training_seconds": 400.0})
    again = sizes(started(monkeypatch, results))
    assert again[slow.backbone, slow.split, 10] == sizes(cut)[slow.backbone, slow.split, 10] == 2
    last = cut.splits[-1]
    assert last != slow.split and again[first.backbone, last, 1] == 24, "the other splits, which have not begun"
    asked = sizes(started(monkeypatch, results, job_minutes=3.0))
    assert asked[slow.backbone, slow.split, 3] == 8, "by the guess, for it has begun"
