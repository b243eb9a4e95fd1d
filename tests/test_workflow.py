"""The whole workflow on a tiny study of made texts: real Snakemake, real training, real files."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from project import CONFIG, METRICS, Project, changed

from peftstudy import archive
from peftstudy.errors import StudyError


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    """The tiny study, run once to its metrics."""
    project = Project(tmp_path_factory.mktemp("finished"))
    project.run(METRICS)
    return project


@pytest.fixture
def copied(finished, tmp_path) -> Project:
    """A copy of the finished study, to change."""
    return Project.copy(finished, tmp_path / "copy")


def written(before: dict[str, int], after: dict[str, int]) -> set[str]:
    """Return the runs that were trained in between."""
    return {name for name, when in after.items() if before.get(name) != when}


def test_every_run_asked_for_is_in_the_metrics(finished):
    runs = pd.read_csv(finished.folder / METRICS)
    assert len(runs) == 2 * (2 * 2 + 1)
    assert set(runs["status"]) == {"finished"}
    assert runs["test_score"].between(0.2, 1).all()
    assert runs.groupby("backbone")["seed"].count().to_dict() == {"small": 8, "small-random": 2}
    searches = pd.read_csv(finished.folder / "results/tiny/metrics/searches.csv")
    assert searches.groupby(["split", "backbone"])["chosen"].sum().eq(1).all()


def test_the_report_is_typeset_and_then_there_is_nothing_to_do(copied):
    if not shutil.which("latexmk"):
        pytest.skip("no latexmk: install latexmk, texlive-latex-recommended, texlive-fonts-recommended, lmodern")
    copied.run()
    report = copied.folder / "results/tiny/paper/report.pdf"
    assert report.read_bytes().startswith(b"%PDF")
    assert "Nothing to be done" in copied.run()


def test_the_archive_holds_every_run(copied):
    copied.run("archive")
    folder = copied.folder / "results/archive/tiny"
    assert archive.check(folder)["runs"] == 10
    record = json.loads(pd.read_parquet(folder / "records.parquet").set_index("run")["record"].iloc[0])
    assert record["status"] == "finished"
    runs = pd.read_csv(copied.folder / METRICS)
    predictions = pd.read_parquet(folder / "predictions.parquet")
    right = (predictions["label"] == predictions["predicted"]).groupby(predictions["run"].astype(str)).mean()
    assert sorted(right) == pytest.approx(sorted(runs["test_score"]))
    (folder / "study.json").write_text("{}")
    with pytest.raises(StudyError, match=r"study\.json: changed since"):
        archive.check(folder)
    (folder / "study.json").unlink()
    with pytest.raises(StudyError, match=r"study\.json: is missing"):
        archive.check(folder)


def test_a_changed_rank_repeats_the_runs_of_that_method_alone(copied):
    before = copied.records()
    copied.run(METRICS, config=changed(methods={**CONFIG["methods"], "lora": {"rank": 4}}))
    repeated = written(before, copied.records())
    assert len(repeated) == 4
    assert all("/lora/" in name for name in repeated)


def test_an_added_seed_trains_that_seed_alone(copied):
    before = copied.records()
    copied.run(METRICS, config=changed(seeds=[0, 1, 2]))
    added = written(before, copied.records())
    assert len(added) == 5
    assert all(name.endswith("seed-2") for name in added)


def test_an_added_method_trains_that_method_alone(copied):
    before = copied.records()
    copied.run(METRICS, config=changed(methods={**CONFIG["methods"], "bitfit": {}}))
    added = written(before, copied.records())
    assert len(added) == 4
    assert all("/bitfit/" in name for name in added)


LONG = changed(training={**CONFIG["training"], "epochs": 40}, splits=["90-10"], methods={"full": {}})


@pytest.fixture(scope="module")
def whole(finished, tmp_path_factory) -> Project:
    """The study with longer runs, made without an interruption."""
    project = Project.copy(finished, tmp_path_factory.mktemp("whole") / "p")
    project.run(METRICS, config=LONG)
    return project


@pytest.mark.parametrize("how", ["all killed", "Snakemake killed", "interrupted"])
def test_a_study_that_is_stopped_ends_with_the_same_numbers(copied, whole, how):
    """Also when what a killed Snakemake had started goes on beside the next one."""
    before = copied.records()
    process = subprocess.Popen(
        copied.command(METRICS, config=LONG), cwd=copied.folder, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    state = copied.folder / "results/tiny/state/runs"
    deadline = time.monotonic() + 120
    while not (written(before, copied.records()) and list(state.rglob("checkpoint.pt"))):
        assert time.monotonic() < deadline and process.poll() is None, "no run was under way to be killed"
        time.sleep(0.02)
    if how == "Snakemake killed":
        os.kill(process.pid, signal.SIGKILL)
    else:
        os.killpg(process.pid, signal.SIGKILL if how == "all killed" else signal.SIGINT)
    process.wait()
    done = written(before, copied.records())
    between = copied.records()
    copied.run("--unlock", config=LONG)
    said = copied.run("--rerun-incomplete", METRICS, config=LONG)
    assert not done & written(between, copied.records()), "a finished run was repeated"
    pd.testing.assert_frame_equal(copied.scores(), whole.scores())
    waited = re.search(r"process \d+ on \S+ (is at it; waiting for its end|ended without giving it up)", said)
    expected = {"all killed": "ended without giving it up", "Snakemake killed": "is at it; waiting for its end"}
    assert waited[1] == expected[how] if how in expected else not waited, said


def test_a_dry_run_lists_the_jobs_of_the_default_study_and_of_a_published_one(finished):
    for arguments in ([], ["--configfile", "studies/imdb-tiny.yaml"]):
        command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", *arguments]
        done = subprocess.run(command, cwd=finished.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "make_backbone" in done.stdout + done.stderr


def test_a_misspelt_key_is_one_sentence_and_no_job(finished, tmp_path):
    project = Project(tmp_path / "p")
    command = project.command("-n", config=changed(methods={**CONFIG["methods"], "prompt": {"tokns": 2}}))
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True)
    assert done.returncode == 1
    said = (done.stdout + done.stderr).strip().splitlines()
    assert said == [
        "study.yaml: methods.prompt: unknown option 'tokns' (known: initial, tokens). Did you mean 'tokens'?"
    ]
    assert not (project.folder / "results").exists()
