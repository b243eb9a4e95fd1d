"""Training and evaluation, CPU seconds and memory: the engine against the Trainer and the plain loop.

    python benchmarks/steps.py --texts imdb/train.jsonl.gz            # the whole table: hours
    python benchmarks/steps.py --texts … --lengths 128 --backbones bert-128x2 --methods full lora

The variants take turns within one process on one thread, on the same examples; what is reported is
the median over the rounds of the ratio within a round. At each turn a batch of the longest texts goes before, which
is not counted: what a process pays once, for memory above all, is no step's. Cells that are in the output already are
not measured again by the same code on the same machine; at the end the table is printed in Markdown.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import setting
import usual

from peftstudy.files import sha256
from peftstudy.provenance import code, peak_memory_bytes
from peftstudy.tricks import allocation

LENGTHS = (128, 256, 512)
GROUPED = 6400  # documents: the Trainer groups by length within 50 batches at a time, nothing on fewer


def cpu_seconds(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


class Cell:
    """One backbone, length and method, to be trained by any variant; each call starts from a fresh model.

    gauge: what is measured of training, and of evaluation. What a variant needs is imported and made when it first
    runs, so that a process that measures the memory of one holds nothing of the others.
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

    @cached_property
    def longest(self) -> np.ndarray:
        """The numbers of a batch of the longest texts."""
        return np.argsort(self.tokens.sizes, kind="stable")[-32:]

    def variants(self) -> dict[str, Callable[[], dict[str, float]]]:
        return {
            "trainer": lambda: self._trainer(),
            "grouped": lambda: self._trainer(group_by_length=True),
            "loop": lambda: self._own("plain"),
            "engine": lambda: self._own("fast"),
        }

    def _trainer(self, **options: Any) -> dict[str, float]:
        allocation.keep(False)  # the engine had it otherwise

        def ready(dataset: Any, output: str) -> Any:
            return usual.trainer(
                usual.load(self.folder, self.method, self.classes, 0), self.tokenizer, dataset, dataset, Path(output),
                0, num_train_epochs=1, learning_rate=1e-4, bf16=self.precision == "bfloat16", use_cpu=True, **options,
            )  # fmt: skip

        with tempfile.TemporaryDirectory() as output:
            ready(self.dataset.select(self.longest), output).train()
            counted = ready(self.dataset, output)
            return {
                "train": self.gauge(counted.train),
                "evaluate": self.gauge(lambda: counted.predict(self.dataset)),
            }

    def _own(self, engine: str) -> dict[str, float]:
        from peftstudy import backbones, methods, scoring, tasks, training
        from peftstudy.checkpoints import Checkpoints
        from peftstudy.specs import Training

        method, task = methods.create(self.method), tasks.create("classification")
        settings = Training(epochs=1, learning_rate=1e-4, precision=self.precision, engine=engine, select="last")
        tokens, every, none, runs = self.tokens, np.arange(len(self.rows.texts)), np.arange(0), []

        def adapted() -> Any:
            loaded = backbones.load(self.folder, task, self.classes, 0, method.attention)
            return methods.adapt(method, loaded, backbones.read_shape(self.folder), 0).model

        def train(model: Any, index: np.ndarray) -> None:
            # The optimizer and the engine are made within, as the Trainer makes its own.
            runs.clear()
            runs.append(training.Run(model, method, task, settings, 0))
            runs[-1].fit(tokens, index, none, Checkpoints())

        train(adapted(), self.longest)
        runs.clear()
        gc.collect()  # what the engine has wrapped refers to itself
        model = adapted()
        return {
            "train": self.gauge(lambda: train(model, every)),
            "evaluate": self.gauge(lambda: scoring.evaluate(runs[-1].engine, task, tokens, every, self.precision)),
        }


def measure(cell: Cell, names: list[str], rounds: int) -> Iterator[dict[str, Any]]:
    """Let the variants take turns; yield CPU seconds a round, the first round (warm-up) left out."""
    for number in range(rounds + 1):
        for name, run in cell.variants().items():
            if name in names:
                begin = time.perf_counter()
                seconds = run()
                wall = time.perf_counter() - begin
                if number:
                    yield {"round": number, "variant": name, **seconds, "wall": wall, "load": os.getloadavg()[0]}


def peak_memory(given: argparse.Namespace, asked: dict[str, Any], variant: str) -> int:
    """Return the peak resident bytes of a process of its own that trains the cell by one variant."""
    command = [sys.executable, __file__, "--texts", str(given.texts), "--output", str(given.output),
               "--precision", given.precision, "--examples", str(given.examples), "--peak", variant,
               "--lengths", str(asked["length"]), "--backbones", asked["backbone"],
               "--methods", asked["method"]]  # fmt: skip
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


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
            *(f"{row['peak'][name] / 2**20:,.0f} MB" if name in row["peak"] else "" for name in ("trainer", "engine")),
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
    parser.add_argument("--peak", help=argparse.SUPPRESS)
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
                         "texts": sha256(given.texts), "code": code()["commit"],
                         "machine": setting.machine()}  # fmt: skip
                if given.peak:
                    cell = Cell(backbone, length, method, rows, given.output, given.precision)
                    cell.variants()[given.peak]()
                    print(peak_memory_bytes())  # not ru_maxrss, which a process takes over from its parent
                    return
                found = next((row for row in done if row.items() >= asked.items()), None)
                if found is None:
                    found = asked | _measured(
                        Cell(backbone, length, method, rows, given.output, given.precision), asked
                    )
                    found["peak"] = {} if given.grouped else {v: peak_memory(given, asked, v) for v in names}
                    with log.open("a") as file:
                        file.write(json.dumps(found) + "\n")
                shown.append(found)
                print(table([found]).splitlines()[-1], file=sys.stderr, flush=True)
    load = np.median([value for row in shown for values in row["load"].values() for value in values])
    print(f"{setting.machine()}; median load {load:.1f}. {given.precision}, {count} texts, {given.rounds} rounds.\n")
    print(table(shown))


def _measured(cell: Cell, asked: dict[str, Any]) -> dict[str, Any]:
    found = list(measure(cell, asked["variants"], asked["rounds"]))
    columns = ("train", "evaluate", "wall", "load")
    return {
        column: {v: [row[column] for row in found if row["variant"] == v] for v in asked["variants"]}
        for column in columns
    }


if __name__ == "__main__":
    main()
