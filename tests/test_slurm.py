"""The workflow on a real Slurm: to the same tables, and through its faults to the same numbers."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import slurm_cluster
import torch
from project import CONFIG, METRICS, Project, changed
from slurm_cluster import wait_for

from peftstudy import locks

pytestmark = pytest.mark.slurm

PROFILE = ("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10")
# Two runs of one job, each some seconds long.
LONG = changed(
    splits=["90-10"], methods={"full": {}}, claims=[], backbones={"small": CONFIG["backbones"]["small"]},
    training={**CONFIG["training"], "epochs": 40}, workflow={"methods_per_job": 1, "checkpoint_seconds": 0.2},
)  # fmt: skip
RULE = "rule_train_made_90-10_small_1"


@pytest.fixture(scope="session")
def cluster():
    """A cluster for this process's tests."""
    if missing := slurm_cluster.missing():
        pytest.skip(
            f"no Slurm: {', '.join(missing)} not found; install {slurm_cluster.PACKAGES} (make test-slurm does)"
        )
    with slurm_cluster.running() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Project:
    """The long study, run on this machine without a fault; made once for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "whole"
    with locks.held(folder.with_suffix(".lock"), "the study without a fault"):
        if (folder / METRICS).exists():
            project = Project.__new__(Project)
            project.folder = folder
        else:
            project = Project(folder)
            project.run(METRICS, config=LONG)
    return project


class OnCluster:
    """A study whose runs are still to be made, and the Snakemake that makes them on the cluster."""

    def __init__(self, cluster, whole: Project, folder: Path):
        self.cluster, self.project = cluster, Project.copy(whole, folder)
        self.root = self.project.folder / "results/tiny"
        for name in ("runs", "state/runs", "logs/runs", "metrics/runs.csv"):
            path = self.root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.config = LONG
        self.started: list[subprocess.Popen] = []

    def start(self, *arguments: str) -> subprocess.Popen:
        log = (self.project.folder / f"snakemake-{len(self.started)}.log").open("w")
        process = subprocess.Popen(
            self.project.command(METRICS, *arguments, config=self.config, where=PROFILE), cwd=self.project.folder,
            env=self.cluster.environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.started.append(process)
        return process

    def end(self, seconds: float = 240) -> str:
        """Wait for the Snakemake that was started last; return what it said."""
        try:
            self.started[-1].wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"Snakemake hangs:\n{self.said()[-3000:]}")
        return self.said()

    def said(self) -> str:
        return (self.project.folder / f"snakemake-{len(self.started) - 1}.log").read_text()

    def training(self) -> str:
        """Wait until a run has a checkpoint; return the id of the job that trains it."""
        wait_for(lambda: list(self.root.glob("state/runs/**/checkpoint.pt")), f"a checkpoint\n{self.root}", 120)
        [job] = [job["id"] for job in self.cluster.jobs("RUNNING") if job["rule"].startswith(RULE)]
        return job

    def trainer(self) -> psutil.Process:
        """Return the process that trains."""
        for process in psutil.process_iter(["cmdline", "cwd"]):
            command = process.info["cmdline"] or []
            if command[1:4] == ["-m", "peftstudy", "train"] and process.info["cwd"] == str(self.project.folder):
                return process
        raise AssertionError("nothing trains")

    def slurm_logs(self) -> str:
        """Return what the jobs wrote, one after the other."""
        paths = self.project.folder.glob(".snakemake/slurm_logs/**/*.log")
        return "\n".join(path.read_text() for path in sorted(paths, key=lambda path: path.stat().st_mtime))

    def assert_same_numbers(self, whole: Project) -> None:
        pd.testing.assert_frame_equal(self.project.scores(), whole.scores())

    def stopped(self) -> int:
        """Return the step after which a run that was asked to stop put its checkpoint down."""
        said = "".join(path.read_text() for path in self.project.folder.glob("snakemake-*.log")) + self.slurm_logs()
        found = re.search(r"peftstudy train: SIGTERM after step (\d+); the next start goes on", said)
        assert found, said[-3000:]
        return int(found[1])

    def checkpoint_step(self) -> int:
        """Return the step of the checkpoint that lies there."""
        [path] = self.root.glob("state/runs/**/checkpoint.pt")
        content = io.BytesIO(path.read_bytes()[32:])
        return torch.load(content, weights_only=True)["state"]["progress"]["step"]

    def continued(self) -> int:
        """Return the step that the first interrupted run went on from."""
        found = re.search(r"going on from step (\d+)", self.slurm_logs())
        assert found, self.slurm_logs()[-3000:]
        return int(found[1])


@pytest.fixture
def study(cluster, whole, tmp_path):
    study = OnCluster(cluster, whole, tmp_path / "study")
    yield study
    for process in study.started:
        if process.poll() is None:
            process.kill()
            process.wait()
    for job in cluster.jobs("PENDING,RUNNING"):
        cluster.ask("scancel", "--signal=KILL", "--full", job["id"])
        cluster.ask("scancel", job["id"])
    wait_for(lambda: not cluster.jobs("PENDING,RUNNING,COMPLETING"), "an empty queue")


def test_a_study_comes_to_the_same_tables_as_on_one_machine(cluster, tmp_path):
    """The default study's shape: a pre-trained backbone and a random one, a search, methods, splits, seeds."""
    local, remote = Project(tmp_path / "local"), Project(tmp_path / "remote")
    tables = ["results/tiny/tables", "results/tiny/statistics/scores.csv"]
    command = remote.command(*tables, where=PROFILE)
    with (tmp_path / "remote.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=remote.folder, env=cluster.environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            local.run(*tables)
            assert process.wait(280) == 0, (tmp_path / "remote.log").read_text()[-3000:]
        finally:
            process.kill()
    pd.testing.assert_frame_equal(remote.scores(), local.scores())
    for name in ("scores.tex", "differences.tex", "data.tex", "methods.tex", "tokens.tex"):  # those without seconds
        texts = [(project.folder / tables[0] / name).read_text() for project in (local, remote)]
        assert texts[0] == texts[1], name
    logged = (remote.folder / "results/tiny/logs/runs/train_made_90-10_small_1.log").read_text()
    job = re.match(r"SLURM job (\d+) on \S+", logged)
    assert "gres:gpu:1" in cluster.ask("scontrol", "show", "job", job[1]), "trainings have a GPU"


def test_a_run_on_two_gpus(study):
    small = {**CONFIG["backbones"]["small"], "devices": 2}
    study.config = {**LONG, "backbones": {"small": small}, "training": CONFIG["training"]}
    study.start()
    said = study.end()
    assert study.started[-1].returncode == 0, said
    train = max((job["id"] for job in study.cluster.jobs() if job["rule"].startswith(RULE)), key=int)
    job = study.cluster.ask("scontrol", "show", "job", train)
    assert "TresPerJob=gres:gpu:2" in job and "NumCPUs=2" in job, job
    records = [json.loads(path.read_text()) for path in study.root.glob("runs/**/record.json")]
    assert [record["measured"]["devices"] for record in records] == [2, 2]


def test_scancel(study, whole):
    study.start()
    study.cluster.ask("scancel", study.training())
    said = study.end()
    assert study.started[-1].returncode == 0, said
    assert study.continued() == study.stopped(), "no step is lost"
    study.assert_same_numbers(whole)


def test_a_time_limit(study, whole):
    study.start()
    job = study.training()
    trainer = study.trainer()
    trainer.suspend()  # as slow as the limit needs it: the shortest that Slurm knows is a minute
    kept = study.checkpoint_step()  # perhaps of the last step of an epoch, and no further one under way
    study.cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    wait_for(lambda: job not in [each["id"] for each in study.cluster.jobs("RUNNING")], "the limit", 120)
    trainer.resume()
    said = study.end()
    assert study.started[-1].returncode == 0, said
    assert "SLURM status is: 'TIMEOUT'" in said
    assert study.continued() == study.stopped() >= kept, "no step is lost"
    study.assert_same_numbers(whole)


def test_over_memory(study, whole):
    study.start("--set-resources", "train_made_90-10_small_1:mem_mb=350+2500*(attempt-1)")
    said = study.end()
    assert study.started[-1].returncode == 0, said
    assert "exceeded memory limit" in study.slurm_logs()
    study.assert_same_numbers(whole)


def test_a_node_that_dies(study, whole):
    study.start()
    job = study.training()
    [node] = [each["node"] for each in study.cluster.jobs("RUNNING") if each["id"] == job]
    study.cluster.kill_node(node)
    try:
        said = study.end()
    finally:
        study.cluster.start_node(node)
    assert study.started[-1].returncode == 0, said
    assert study.continued() > 0
    study.assert_same_numbers(whole)


def test_a_job_that_is_preempted_and_queued_again(study, whole):
    study.start()
    job = study.training()
    study.cluster.ask("scontrol", "requeue", job)
    said = study.end()
    assert study.started[-1].returncode == 0, said
    assert study.continued() > 0
    study.assert_same_numbers(whole)


def test_ctrl_c_on_snakemake(study, whole):
    process = study.start()
    study.training()
    study.trainer().suspend()  # until it is cancelled: no run ends before Snakemake has heard
    pressed = time.monotonic() - 5
    while "Terminating processes on user request" not in study.said():
        # An interrupt is lost on Python where it meets the end of a coroutine; a user presses again.
        if time.monotonic() > pressed + 5:
            process.send_signal(signal.SIGINT)
            pressed = time.monotonic()
        assert process.poll() is None, study.said()
        time.sleep(0.1)
    study.end()
    assert process.returncode == 1
    wait_for(lambda: not study.cluster.jobs("PENDING,RUNNING,COMPLETING"), "cancelled jobs")
    study.start()
    assert study.end() and study.started[-1].returncode == 0, study.said()
    assert study.continued() == study.stopped(), "no step is lost"
    study.assert_same_numbers(whole)


def test_a_snakemake_that_is_killed_and_started_again_beside_its_jobs(study, whole):
    process = study.start()
    study.training()
    trainer = study.trainer()
    trainer.suspend()  # until the second one has come to the same run
    process.kill()
    process.wait()
    study.start("--unlock")
    study.end()
    second = study.start()
    waiting = r"made/90-10/small/full/seed-\d: process \d+ on \S+ \(SLURM job \d+\) is at it; waiting for its end"
    wait_for(lambda: re.search(waiting, study.slurm_logs()), "a second writer that waits", 150)
    trainer.resume()
    said = study.end()
    assert second.returncode == 0, said
    trained = re.findall(r"made/90-10/small/full/seed-\d: finished", study.slurm_logs())
    assert len(set(trained)) == 2
    study.assert_same_numbers(whole)


def test_a_second_snakemake_is_refused(study, whole):
    first = study.start()
    study.training()
    second = study.start()
    said = study.end()
    assert second.returncode == 1
    assert "Directory cannot be locked" in said
    study.started.reverse()
    assert first.wait(200) == 0
    study.assert_same_numbers(whole)
