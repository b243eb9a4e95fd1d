"""Runs an hour and the time outside training, packed against one run a job, on a Slurm that is started for it.

    python benchmarks/packs.py [SEEDS]

Wants the packages of make test-slurm. The runs are short ones of a tiny backbone on made texts, the same in both
ways, on a cluster of one node with as many processors as the machine. Prints a table in Markdown.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import slurm_cluster
from project import CONFIG, METRICS, Project, changed

from peftstudy import files

METHODS = {"full": {}, "bitfit": {}, "lora": {"rank": 2}, "head": {}}
RUN_MINUTES = 0.1


def study(seeds: int, job_minutes: float) -> dict:
    return changed(
        splits=["90-10"], backbones={"small": CONFIG["backbones"]["small"]}, methods=METHODS, seeds=list(range(seeds)),
        training={**CONFIG["training"], "epochs": 20},
        workflow={"job_minutes": job_minutes, "run_minutes": RUN_MINUTES, "checkpoint_seconds": 30},
    )  # fmt: skip


def row(prepared: Project, folder: Path, seeds: int, runs_per_job: int) -> str:
    """Make all runs on a cluster of their own; return what that took."""
    project = Project.copy(prepared, folder)
    profile = ["--profile", "slurm", "--slurm-init-seconds-before-status-checks", "2"]
    command = project.command(METRICS, config=study(seeds, RUN_MINUTES * runs_per_job), where=profile)
    with slurm_cluster.running(nodes=1, cpus=os.cpu_count(), gpus=os.cpu_count()) as cluster:
        begin = time.monotonic()
        done = subprocess.run(command, cwd=project.folder, env=cluster.environment, capture_output=True, text=True)
        seconds = time.monotonic() - begin
        jobs = (cluster.folder / "finished.txt").read_text().count("JobState=COMPLETED")
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    records = [files.read_json(path)["measured"] for path in project.folder.glob("results/tiny/runs/**/record.json")]
    training = sum(each["training_seconds"] + each["evaluation_seconds"] for each in records)
    outside = 1 - training / (seconds * os.cpu_count())
    hourly = 3600 * len(records) / seconds
    cells = [runs_per_job, len(records), jobs, f"{seconds:.0f}", f"{hourly:.0f}", f"{training:.0f}", f"{outside:.0%}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    seeds = int(sys.argv[1]) if sys.argv[1:] else 4
    with tempfile.TemporaryDirectory() as name:
        prepared = Project(Path(name) / "prepared")
        made = ["results/tiny/tokens/made/small", "results/tiny/metrics/baselines/made/90-10.json"]
        prepared.run(*made, config=study(seeds, 1))
        print("| runs a job | runs | jobs | seconds | runs an hour | seconds of training | outside it |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for runs_per_job in (1, seeds * len(METHODS) // 2):
            print(row(prepared, Path(name) / str(runs_per_job), seeds, runs_per_job), flush=True)


if __name__ == "__main__":
    main()
