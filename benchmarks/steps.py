"""Training and evaluation, CPU seconds and memory: the engine against the Trainer and the plain loop.

    python benchmarks/steps.py --texts imdb/train.jsonl.gz            # the whole table: hours
    python benchmarks/steps.py --texts … --lengths 128 --backbones bert-128x2 --methods full lora

The variants take turns, each in a process of its own on one thread, on the same examples: what one does to its
process's memory does not help or hinder the other. The first turn of each is not counted. What is reported is the
median over the rounds of the ratio within a round. Cells that are in the output already are not measured again by the
same commit on the same machine, unless the checkout differs from it; at the end the table is printed in Markdown.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import setting
import usual

from peftstudy.files import sha256
from peftstudy.provenance import code, peak_memory_bytes

LENGTHS = (128, 256, 512)
GROUPED = 6400  # documents: the Trainer groups by length within 50 batches at a time, nothing on fewer

ANSWER = "turn: "
WITHOUT = "without-"  # begins the name of a variant, and a trick ends it


def cpu_seconds(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


class Cell:
    """One backbone, length and method, to be trained by any variant; each call starts from a fresh model.

    gauge: what is measured of training, and of evaluation. What a variant needs is imported and made when it first
    runs, so that the process of one holds nothing of the others.
    """

    def __init__(
        self, name: str, length: int, method: str, rows: setting.Texts, folder: Path, precision: str,
        gauge: Callable[[Callable[[], Any]], float] = cpu_seconds,
    ) -> None:  # fmt: skip
        from transformers import AutoTokenizer

        self.gauge = gauge
        self.method, self.length, self.precision, self.rows = method, length, precision, rows
        self.folder = folder / "backbones" / name
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.classes = len(set(rows.labels))

    @cached_property
    def tokens(self) -> Any:
        return setting.encoded(self.rows, self.tokenizer, self.length)

    @cached_property
    def dataset(self) -> Any:
        return usual.tokenised(self.rows.texts, self.rows.labels, self.tokenizer, self.length)

    def variants(self) -> dict[str, Callable[[], dict[str, float]]]:
        return {
            "trainer": lambda: self._trainer(),
            "grouped": lambda: self._trainer(group_by_length=True),
            "loop": lambda: self._own("plain"),
            "engine": lambda: self._own("fast"),
        }

    def without(self, *tricks: str) -> dict[str, float]:
        """Train by the engine without some of its tricks."""
        from peftstudy.engine import TRICKS

        return self._own(sorted(TRICKS.keys() - set(tricks)))

    def _trainer(self, **options: Any) -> dict[str, float]:
        model = usual.load(self.folder, self.method, self.classes, 0)
        dataset = self.dataset
        with tempfile.TemporaryDirectory() as output:
            ready = usual.trainer(
                model, self.tokenizer, dataset, dataset, Path(output), 0, num_train_epochs=1,
                learning_rate=1e-4, bf16=self.precision == "bfloat16", use_cpu=True, **options,
            )  # fmt: skip
            return {"train": self.gauge(ready.train), "evaluate": self.gauge(lambda: ready.predict(dataset))}

    def _own(self, engine: str | list[str]) -> dict[str, float]:
        from peftstudy import backbones, methods, scoring, tasks, training
        from peftstudy.checkpoints import Checkpoints
        from peftstudy.specs import Training

        method, task = methods.create(self.method), tasks.create("classification")
        loaded = backbones.load(self.folder, task, self.classes, 0, method.attention)
        adapted = methods.adapt(method, loaded, backbones.read_shape(self.folder), 0)
        settings = Training(epochs=1, learning_rate=1e-4, precision=self.precision, engine=engine, select="last")
        tokens, every, none, runs = self.tokens, np.arange(len(self.rows.texts)), np.arange(0), []

        def train() -> None:  # the optimizer and the engine are made within, as the Trainer makes its own
            runs.append(training.Run(adapted.model, method, task, settings, 0))
            runs[0].fit(tokens, every, none, Checkpoints())

        def evaluate() -> None:
            scoring.evaluate(runs[0].engine, task, tokens, every, self.precision)

        return {"train": self.gauge(train), "evaluate": self.gauge(evaluate)}


class Worker:
    """A process of its own that trains a cell by one variant, a turn at a time."""

    def __init__(self, variant: str, given: argparse.Namespace, asked: dict[str, Any]) -> None:
        command = [sys.executable, __file__, "--texts", str(given.texts), "--output", str(given.output),
                   "--precision", given.precision, "--examples", str(asked["examples"]), "--turns", variant,
                   "--lengths", str(asked["length"]), "--backbones", asked["backbone"],
                   "--methods", asked["method"]]  # fmt: skip
        self.variant = variant
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn(self) -> dict[str, float]:
        """Let it train and evaluate once; return its CPU seconds, and its peak of memory so far."""
        begin = time.perf_counter()
        print(file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith(ANSWER):
                wall = time.perf_counter() - begin
                return json.loads(line.removeprefix(ANSWER)) | {"wall": wall, "load": os.getloadavg()[0]}
        raise SystemExit(f"{self.variant}: its process ended with {self.process.wait()}.")

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def take_turns(cell: Cell, variant: str) -> None:
    """Be such a process: a turn for each line that comes in."""
    kind, _, trick = variant.partition(WITHOUT)
    work = partial(cell.without, trick) if trick else cell.variants()[kind]
    for _ in sys.stdin:
        # Not ru_maxrss, which a process takes over from its parent.
        print(ANSWER + json.dumps(work() | {"peak": peak_memory_bytes()}), flush=True)


def measured(given: argparse.Namespace, asked: dict[str, Any]) -> dict[str, Any]:
    """Return what the turns took, a list for each variant and measure; peaks are those of the first turn alone."""
    workers = [Worker(name, given, asked) for name in asked["variants"]]
    first = {worker.variant: worker.turn() for worker in workers}
    rounds = [{worker.variant: worker.turn() for worker in workers} for _ in range(asked["rounds"])]
    for worker in workers:
        worker.end()
    return {
        column: {name: [turns[name][column] for turns in rounds] for name in first}
        for column in ("train", "evaluate", "wall", "load")
    } | {"peak": {name: turn["peak"] for name, turn in first.items()}}


def measured_before(asked: dict[str, Any], done: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row of what is asked, if there is one; a commit names the code of an unchanged checkout alone."""
    return next((row for row in done if asked["dirty"] is False and row.items() >= asked.items()), None)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the measurements as a Markdown table: CPU seconds for 1,000 examples and ratios to the engine."""
    lines = [
        "| backbone | tokens | method | Trainer | loop | engine | Trainer / engine | loop / engine | evaluation | "
        "peak, Trainer | peak, engine |",
        "| --- " * 11 + "|",
    ]
    for row in rows:
        thousand = {name: 1000 * np.median(row["train"][name]) / row["examples"] for name in row["train"]}
        shown = [
            row["backbone"], row["length"], row["method"] + (" (grouped)" if "grouped" in thousand else ""),
            *(f"{thousand[name]:.2f}" if name in thousand else "" for name in (_baseline(row), "loop", "engine")),
            ratio(row, "train", _baseline(row)), ratio(row, "train", "loop"), ratio(row, "evaluate", _baseline(row)),
            *(f"{row['peak'][name] / 2**20:,.0f} MiB" if name in row["peak"] else "" for name in ("trainer", "engine")),
        ]  # fmt: skip
        lines.append("| " + " | ".join(str(value) for value in shown) + " |")
    return "\n".join(lines)


def _baseline(row: dict[str, Any]) -> str:
    return "grouped" if "grouped" in row["train"] else "trainer"


def ratio(row: dict[str, Any], what: str, variant: str) -> str:
    """Return the median of the paired ratios of a variant to the engine, with their range."""
    if variant not in row[what]:
        return ""
    ratios = np.array(row[what][variant]) / np.array(row[what]["engine"])
    return f"**{np.median(ratios):.2f}** ({ratios.min():.2f}–{ratios.max():.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help="JSON Lines with text and label, .gz or not")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--backbones", nargs="+", choices=setting.SHAPES, default=setting.MEASURED)
    parser.add_argument("--methods", nargs="+", choices=usual.METHODS, default=usual.METHODS)
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--variants", nargs="+", choices=["trainer", "loop"], default=["trainer", "loop"])
    parser.add_argument("--grouped", action="store_true", help=f"against group_by_length, on {GROUPED} texts")
    parser.add_argument("--turns", metavar="VARIANT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    count = GROUPED if given.grouped else given.examples
    for name in given.backbones:
        setting.backbone(name, given.texts, given.output / "backbones")
    rows = setting.read_texts(given.texts, count)
    names = ["grouped"] if given.grouped else list(given.variants)
    names.append("engine")
    log = given.output / "steps.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    shown = []
    for backbone in given.backbones:
        for length in given.lengths:
            for method in given.methods:
                asked = {"backbone": backbone, "length": length, "method": method, "precision": given.precision,
                         "examples": count, "rounds": given.rounds, "variants": names,
                         "texts": sha256(given.texts), "code": code()["commit"], "dirty": code()["dirty"],
                         "machine": setting.machine()}  # fmt: skip
                if given.turns:
                    return take_turns(Cell(backbone, length, method, rows, given.output, given.precision), given.turns)
                found = measured_before(asked, done)
                if found is None:
                    found = asked | measured(given, asked)
                    with log.open("a") as file:
                        file.write(json.dumps(found) + "\n")
                shown.append(found)
                print(table([found]).splitlines()[-1], file=sys.stderr, flush=True)
    load = np.median([value for row in shown for values in row["load"].values() for value in values])
    print(f"{setting.machine()}; median load {load:.1f}. {given.precision}, {count} texts, {given.rounds} rounds.\n")
    print(table(shown))


if __name__ == "__main__":
    main()
