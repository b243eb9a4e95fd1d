"""How many operations the matrix products of training and evaluation take: the Trainer's beside the engine's.

    python benchmarks/operations.py --texts imdb/train.jsonl.gz

The ratio is the limit of what leaving out padding, and positions that nobody reads, can save where products are all
that takes time. Counted by torch (torch.utils.flop_counter), two for each multiplication with its addition; norms,
dropout, activations and the optimizer are not counted, and what the engine saves there comes on top.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import setting
import steps
import usual
from torch.utils.flop_counter import FlopCounterMode

UNCOUNTED = ("products", "fused")
"""Tricks that compute the same products by operators that the counter does not know."""


def operations(work: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def row(cell: steps.Cell) -> str:
    """Return a row of the table: operations for a text, in units of 10^9, and their ratios."""
    found = [cell.variants()["trainer"](), cell.without(*UNCOUNTED)]
    cells = []
    for what in ("train", "evaluate"):
        counts = [side[what] / len(cell.rows.texts) for side in found]
        cells += [*(f"{count / 1e9:.3f}" for count in counts), f"**{counts[0] / counts[1]:.2f}**"]
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help="JSON Lines with text and label, .gz or not")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--lengths", type=int, nargs="+", default=steps.LENGTHS)
    parser.add_argument("--backbones", nargs="+", choices=setting.SHAPES, default=setting.MEASURED)
    parser.add_argument("--methods", nargs="+", choices=usual.METHODS, default=["full", "lora"])
    parser.add_argument("--examples", type=int, default=256)
    given = parser.parse_args()
    rows = setting.read_texts(given.texts, given.examples)
    print("| backbone | tokens | method | training, Trainer | engine | ratio | evaluation, Trainer | engine | ratio |")
    print("| --- " * 9 + "|")
    for name in given.backbones:
        setting.backbone(name, given.texts, given.output / "backbones")
        for length in given.lengths:
            for method in given.methods:
                cell = steps.Cell(name, length, method, rows, given.output, "float32", operations)
                print(f"| {name} | {length} | {method} | {row(cell)} |", flush=True)


if __name__ == "__main__":
    main()
