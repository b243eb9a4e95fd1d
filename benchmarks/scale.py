"""How the workflow grows: studies of 100, 1,000 and 10,000 runs, planned, finished, asked for their status, collected.

    python benchmarks/scale.py [RUNS ...]

Prints a table in Markdown: seconds of processor time (of the clock), and peak memory. One run is really trained and
scored; a finished study has its files under every run's name, each record with what that run asks for, and all that
Snakemake notes of finished jobs.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import yaml
from project import CONFIG, METRICS, Project, changed

from peftstudy import files
from peftstudy.checking import check
from peftstudy.study import Study

METHODS = ("full", "embeddings", "encoder", "head", "bitfit", "prompt", "lora", "houlsby", "dora", "ia3")
SMALL = {"small": CONFIG["backbones"]["small"]}
ONE = changed(splits=["size-20"], backbones=SMALL, methods={"full": {}}, seeds=[0], claims=[])

# A process of its own, and a small one: what a child of it has used begins with what it uses itself.
WATCH = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[2:], stdout=open(sys.argv[1], "w"), stderr=subprocess.STDOUT)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(done.returncode)
"""


def configuration(runs: int) -> dict:
    """Return a study of about so many runs: ten methods, five seeds, and splits and backbones to match."""
    cells = max(1, runs // 50)
    splits = min(10, cells)
    return {
        **ONE,
        "splits": [f"size-{20 + number}" for number in range(splits)],
        "backbones": SMALL | {f"random-{number}": {"random": "small"} for number in range(1, cells // splits)},
        "methods": {name: {} for name in METHODS},
        "seeds": list(range(5)),
        "workflow": {"methods_per_job": 4},
    }  # fmt: skip


def finish(results: Path, study: Study) -> None:
    """Give every run, split and backbone of the study the files of those that are there."""
    [one] = check(ONE, "").runs()
    for split in study.splits:
        _copy(results / "splits/made", one.split, split)
        _copy(results / "metrics/baselines/made", f"{one.split}.json", f"{split}.json")
    for backbone in study.backbones:
        _copy(results / "backbones", one.backbone, backbone)
        _copy(results / "tokens/made", one.backbone, backbone)
    record = files.read_sealed(results / "runs" / one.path / "record.json")
    for run in study.runs():
        _copy(results / "runs", one.path, run.path)
        files.write_sealed(results / "runs" / run.path / "record.json", record | {"asked": run.as_dict()})
    (results / "study.json").write_text(json.dumps(configuration(len(study.runs()))))


def _copy(folder: Path, name: str, other: str) -> None:
    if name != other:
        (shutil.copytree if (folder / name).is_dir() else shutil.copy)(folder / name, folder / other)


def measured(folder: Path, *command: str) -> str:
    """Run a command; return the seconds of processor time and of the clock, and its peak memory, as a cell."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    log, begin = folder / "log", time.monotonic()
    words = [sys.executable, "-c", WATCH, str(log), sys.executable, "-m", *command]
    done = subprocess.run(words, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    busy, kilobytes = map(float, done.stdout.split())
    return f"{busy:.1f} s ({time.monotonic() - begin:.1f} s), {kilobytes / 1024:.0f} MiB"


def row(prepared: Project, folder: Path, runs: int) -> list[str]:
    project = Project.copy(prepared, folder)
    config = configuration(runs)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    study = check(config, "config.yaml")
    results = folder / "results" / study.name
    snakemake = ["snakemake", "--cores", "2", METRICS, "--quiet", "all"]
    results.rename(folder / "one")
    cells = [measured(folder, *snakemake, "-n"), measured(folder, "peftstudy", "status")]
    (folder / "one").rename(results)
    finish(results, study)
    where = ["--study", f"{results}/study.json", "--results", str(results), "--output", f"{results}/metrics"]
    collected = measured(folder, "peftstudy", "collect", *where)
    measured(folder, *snakemake, "--touch", "--forceall")
    cells += [measured(folder, *snakemake), measured(folder, "peftstudy", "status"), collected]
    if "Nothing to be done" not in project.run(METRICS, "-n", config=config):
        raise SystemExit("the finished study is not finished")
    return [f"{len(study.runs()):,}", f"{len(study.packs()):,}", *cells]


def main() -> None:
    head = ["runs", "packs", "`snakemake -n`", "`peftstudy plan`", "nothing to do", "`peftstudy status`", "collect"]
    with tempfile.TemporaryDirectory() as name:
        prepared = Project(Path(name) / "prepared")
        prepared.run(METRICS, config=ONE)
        print(f"| {' | '.join(head)} |\n{'| --- ' * len(head)}|")
        for runs in [int(word) for word in sys.argv[1:]] or [100, 1_000, 10_000]:
            folder = Path(name) / str(runs)
            print(f"| {' | '.join(row(prepared, folder, runs))} |", flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
