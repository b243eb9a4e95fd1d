"""A study on a Slurm: what starts it, what waits for its jobs, and what reads what they said."""

import io
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pandas as pd
import psutil
import pytest
import slurm_cluster
import torch
from project import LONG, METRICS, Project
from slurm_cluster import Cluster, wait_for

from peftstudy import locks

PROFILE = ("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10")
RULE = "rule_train_made_90-10_small_1"


@contextmanager
def started(script: ModuleType, cluster: type[Cluster], what: str) -> Iterator[Cluster]:
    """Start a cluster for the block's time; skip where a script's programs are not installed."""
    if missing := script.missing():
        pytest.skip(f"no {what}: {', '.join(missing)} not found; install {script.PACKAGES} (make test-slurm does)")
    with slurm_cluster.running(cluster) as running:
        yield running


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
        self.config, self.target = LONG, METRICS
        self.started: list[subprocess.Popen] = []

    def set_in_profile(self, line: str, new: str) -> None:
        """Change a line of the profile, as a user does with an editor."""
        path = self.project.folder / "slurm/config.yaml"
        assert path.read_text().count(line) == 1, line
        path.write_text(path.read_text().replace(line, new))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """Start Snakemake, for the study's target."""
        log = (self.project.folder / f"snakemake-{len(self.started)}.log").open("w")
        process = subprocess.Popen(
            self.project.command(self.target, *arguments, config=self.config, where=PROFILE), cwd=self.project.folder,
            env={**self.cluster.environment, **environment}, stdout=log, stderr=subprocess.STDOUT,
            # A shell's background jobs, and what they start, ignore Ctrl-C; who works at a terminal does not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        self.started.append(process)
        return process

    def end(self, seconds: float = 600) -> str:
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

    def jobs_of(self, rule: str) -> list[str]:
        """Return the numbers of this study's jobs of a rule, the first one first."""
        logs = self.project.folder.glob(f".snakemake/slurm_logs/{rule}/*.log")
        return sorted((path.stem for path in logs), key=int)

    def shown(self, rule: str) -> str:
        """Return what Slurm says of the last job of a rule."""
        return self.cluster.ask("scontrol", "show", "job", self.jobs_of(rule)[-1])

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

    def close(self) -> None:
        """End what is still under way."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        for job in self.cluster.jobs("PENDING,RUNNING"):
            self.cluster.ask("scancel", "--signal=KILL", "--full", job["id"])
            self.cluster.ask("scancel", job["id"])
        wait_for(lambda: not self.cluster.jobs("PENDING,RUNNING,COMPLETING"), "an empty queue")


@contextmanager
def closing(cluster: Cluster, whole: Project, folder: Path) -> Iterator[OnCluster]:
    """Yield a study on a cluster, and end what it leaves there."""
    study = OnCluster(cluster, whole, folder)
    try:
        yield study
    finally:
        study.close()
