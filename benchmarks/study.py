"""A whole study, cold, from the start of the processes to the last score: the workflow against a shell loop.

    python benchmarks/study.py --texts imdb/train.jsonl.gz

Both do the same runs (2 backbones x 5 methods x 2 splits x 3 seeds) on the same examples, the same
budget and precision, two at a time on one thread each. The loop is what `usual.py` does, one
process a run, as shell scripts over run_glue.py do; the workflow makes its tables as well.
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import setting
import yaml

ROOT = Path(__file__).resolve().parent.parent
METHODS = {"full": 3e-4, "embeddings": 1e-3, "encoder": 3e-4, "prompt": 1e-2, "bitfit": 3e-3}
SPLITS = ("90-10", "30-70")
PARTS = ("train", "validation", "test")


def write_study(given: argparse.Namespace, folder: Path) -> Path:
    """Write the texts and the configuration of the study that both sides do; return the configuration's path."""
    rows = setting.read_texts(given.texts, given.examples)
    with gzip.open(folder / "texts.jsonl.gz", "wt") as file:
        for text, label in zip(rows.texts, rows.labels, strict=True):
            file.write(json.dumps({"text": text, "label": label}) + "\n")
    config = {
        "study": "benchmark",
        "title": "A study for measuring",
        "question": "How long does a study take?",
        "sources": {"texts": {"kind": "files", "path": str(folder), "files": {"all": "texts.jsonl.gz"}}},
        "datasets": {"texts": {"source": "texts", "task": "classification", "text": "text", "label": "label",
                               "labels": [0, 1], "max_length": given.length}},
        "splits": given.splits,
        "backbones": {name: {"folder": str(folder / "backbones" / name)} for name in given.backbones},
        "methods": {name: {"learning_rate": METHODS[name]} for name in given.methods},
        "seeds": list(range(given.seeds)),
        "training": {"epochs": given.epochs, "batch_size": 32, "select": "last"},
    }  # fmt: skip
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def workflow(config: Path, folder: Path) -> float:
    """Return the seconds that the workflow takes from nothing to the report's tables."""
    command = [sys.executable, "-m", "snakemake", "-c2", "--quiet"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder / "workflow")]
    command += ["--configfile", str(config), "--", "results/benchmark/tables"]
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - begin


def loop(given: argparse.Namespace, folder: Path) -> float:
    """Return the seconds of the loop over the same parts, which the workflow has cut."""
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    for split in given.splits:
        _write_parts(folder / "workflow/results/benchmark/splits/texts", split, parts)

    def run(job: tuple[str, str, str, int]) -> None:
        backbone, method, split, seed = job
        files = {part: parts / f"{split}-{part}.jsonl" for part in PARTS}
        options = {
            **files, "backbone": folder / "backbones" / backbone, "method": method, "seed": seed,
            "rate": METHODS[method], "length": given.length, "epochs": given.epochs,
            "output": parts / f"{backbone}-{method}-{split}-{seed}.json",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, str(ROOT / "benchmarks/usual.py"), *words]
        subprocess.run(command, check=True, capture_output=True)

    begin = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, product(given.backbones, given.methods, given.splits, range(given.seeds))))
    return time.perf_counter() - begin


def _write_parts(splits: Path, split: str, output: Path) -> None:
    import numpy as np
    import pandas as pd

    examples = pd.read_parquet(splits / "examples.parquet")
    for part in PARTS:
        chosen = examples.iloc[np.load(splits / split / f"{part}.npy")]
        rows = [json.dumps({"text": row.text, "label": int(row.label)}) for row in chosen.itertuples()]
        (output / f"{split}-{part}.jsonl").write_text("\n".join(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help="JSON Lines with text and label, .gz or not")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/study"))
    parser.add_argument("--backbones", nargs="+", choices=setting.SHAPES, default=setting.MEASURED)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    folder = given.output.resolve()
    (folder / "workflow").mkdir(parents=True)  # a second measurement wants a new folder: this one must be cold
    for name in given.backbones:
        setting.backbone(name, given.texts, folder / "backbones")
    ours = workflow(write_study(given, folder), folder)
    theirs = loop(given, folder)
    runs = len(given.backbones) * len(given.methods) * len(given.splits) * given.seeds
    print(f"{setting.machine()}. {runs} runs: {given.examples} texts of up to {given.length} tokens, "
          f"{given.epochs} epochs, float32.\n")  # fmt: skip
    print("| shell loop over the Trainer | workflow | ratio |\n| --- | --- | --- |")
    print(f"| {theirs / 60:.1f} min | {ours / 60:.1f} min | **{theirs / ours:.1f}** |")


if __name__ == "__main__":
    main()
