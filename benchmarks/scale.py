"""How the workflow grows: studies of 100, 1,000 and 10,000 runs, planned, asked for their status, and finished.

    python benchmarks/scale.py [RUNS ...]

Prints a table in Markdown: seconds of processor time (of the clock), and peak memory. The records are made up;
Snakemake and `peftstudy status` are the real ones.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from peftstudy.checking import check
from peftstudy.study import Study

ROOT = Path(__file__).resolve().parents[1]
METRICS = "results/scale/metrics/runs.csv"
METHODS = ("full", "embeddings", "encoder", "head", "bitfit", "prompt", "lora", "houlsby", "dora", "ia3")
MEASURED = {"setup_seconds": 1.0, "training_seconds": 60.0, "evaluation_seconds": 2.0, "device": "cpu"}


def configuration(runs: int) -> dict:
    """Return a study of about so many runs: ten methods, five seeds, and splits and backbones to match."""
    cells = max(1, runs // 50)
    splits = min(10, cells)
    return {
        "study": "scale", "title": "Scale", "question": "How many?",
        "sources": {"made": {"kind": "files", "path": "data", "files": {"all": "made.csv"}}},
        "datasets": {"made": {"source": "made", "task": "classification", "text": "text", "label": "label"}},
        "splits": [f"size-{100 + number}" for number in range(splits)],
        "backbones": {f"b{number}": {"folder": "backbone"} for number in range(cells // splits)},
        "methods": {name: {} for name in METHODS},
        "seeds": list(range(5)),
        "workflow": {"methods_per_job": 4},
    }  # fmt: skip


def prepare(folder: Path, runs: int) -> Study:
    """Lay out a project whose study has so many runs, none of them made."""
    for name in ("workflow", "src", "paper", "Snakefile", "requirements.lock", "slurm", "envs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "data").mkdir()
    (folder / "data" / "made.csv").write_text("text,label\n")
    config = configuration(runs)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return check(config, "config.yaml")


def finish(folder: Path, study: Study) -> None:
    """Write a record for every run, and files for what they were made from, in the order of the flow."""
    results = folder / "results" / study.name
    made = [results / "sources/made" / name for name in ("table.parquet", "manifest.json")]
    made += [results / "splits/made" / name for name in ("examples.parquet", "examples.json")]
    parts = ("train.npy", "validation.npy", "test.npy", "split.json")
    made += [results / "splits/made" / split / name for split in study.splits for name in parts]
    made += [results / "backbones" / name / "manifest.json" for name in study.backbones]
    made += [results / "tokens/made" / name / "tokens.json" for name in study.backbones]
    made += [results / "metrics/baselines/made" / f"{split}.json" for split in study.splits]
    made += [results / "study.json"]
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"parameters": 4000000}')
    for run in study.runs():
        place = results / "runs" / run.path
        place.mkdir(parents=True)
        record = {"asked": run.as_dict(), "key": "k", "status": "finished", "reason": None, "measured": MEASURED}
        texts = {"record.json": json.dumps(record), "history.csv": "", "test.json": '{"is_collapsed": false}'}
        for name, text in (texts | {"predictions.parquet": ""}).items():
            (place / name).write_text(text)
    for name in ("epochs", "searches", "baselines", "splits", "tokens", "backbones", "runs"):
        (results / "metrics" / f"{name}.csv").write_text("")


def measured(folder: Path, *command: str) -> str:
    """Run a command; return the seconds of processor time and of the clock, and its peak memory, as a cell."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    begin = time.monotonic()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(folder / 'log').read_text()[-2000:]}")
    busy, clock = usage.ru_utime + usage.ru_stime, time.monotonic() - begin
    return f"{busy:.1f} s ({clock:.1f} s), {usage.ru_maxrss / 1024:.0f} MB"


def row(runs: int) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = prepare(folder, runs)
        snakemake = [sys.executable, "-m", "snakemake", "--cores", "2", METRICS, "--quiet", "all"]
        status = [sys.executable, "-m", "peftstudy", "status"]
        cells = [measured(folder, *snakemake, "-n"), measured(folder, *status)]
        finish(folder, study)
        measured(folder, *snakemake, "--touch")
        cells += [measured(folder, *snakemake), measured(folder, *status)]
        return [f"{len(study.runs()):,}", f"{len(study.packs()):,}", *cells]


def main() -> None:
    print("| runs | packs | `snakemake -n` | `peftstudy plan` | nothing to do | `peftstudy status`, all done |")
    print("| --- | --- | --- | --- | --- | --- |")
    for runs in [int(word) for word in sys.argv[1:]] or [100, 1_000, 10_000]:
        print("| " + " | ".join(row(runs)) + " |", flush=True)


if __name__ == "__main__":
    main()
