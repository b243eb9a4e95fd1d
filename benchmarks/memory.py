"""Where the bytes of a training step go: weights, gradients, optimizer states, activations, by method.

    python benchmarks/memory.py --texts imdb/train.jsonl.gz

Counted on the objects themselves, after a real step: what theory says of a method (gradients and two
moments for what trains, nothing for what is frozen) can be held against it. The rest of the most that is
alive at once is activations. A process takes what its libraries take on top; `steps.py` measures that.
"""

import argparse
import os
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import setting
import torch
import usual
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from peftstudy import backbones, methods, tasks, training
from peftstudy.specs import Training

STEPS = {
    "loop": {"engine": "plain"},
    "engine": {"engine": "fast"},
    "engine, checkpointed": {"engine": "fast", "activation_checkpointing": True},
}


class Alive(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive at once; a storage that several share counts once."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.sizes: dict[weakref.ref, int] = {}
        self.now = self.most = 0
        self._see(list(model.parameters()) + list(model.buffers()))

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = operation(*args, **(kwargs or {}))
        self._see(tree_leaves((args, kwargs, results)))
        return results

    def _see(self, values: Iterable[Any]) -> None:
        for value in values:
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                reference = weakref.ref(storage, self._forget)
                if reference not in self.sizes:
                    self.sizes[reference] = storage.nbytes()
                    self.now += storage.nbytes()
        self.most = max(self.most, self.now)

    def _forget(self, reference: weakref.ref) -> None:
        self.now -= self.sizes.pop(reference, 0)


def step_bytes(folder: Path, name: str, classes: int, tokens: Any, settings: Training) -> dict[str, int]:
    """Return the bytes that a fresh model and its steps over the texts take, by what they hold, and at the most."""
    method, task = methods.create(name), tasks.create("classification")
    loaded = backbones.load(folder, task, classes, 0, method.attention)
    adapted = methods.adapt(method, loaded, backbones.read_shape(folder), 0)
    run = training.Run(adapted.model, method, task, settings, 0)
    every, gradients = np.arange(len(tokens.lengths)), {}
    run.optimizer.register_step_pre_hook(
        lambda *_: gradients.update({p: p.grad.nbytes for p in run.parameters if p.grad is not None})
    )
    with Alive(adapted.model) as alive:
        run.fit(tokens, every, every[:0], training.Checkpoints())
    moments = (value for state in run.optimizer.state.values() for value in state.values())
    return {
        "trained": sum(parameter.numel() for parameter in run.parameters),
        "weights": _bytes(adapted.model.parameters()),
        "gradients": sum(gradients.values()),
        "moments": _bytes(moment for moment in moments if moment.ndim),
        "most": alive.most,
    }


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the counts as a Markdown table, in MB (2^20 bytes)."""
    lines = [
        "| backbone | tokens | method | trained parameters | weights | gradients | moments | "
        + " | ".join(f"at the most, {name}" for name in STEPS)
        + " |",
        "| --- " * (7 + len(STEPS)) + "|",
    ]
    for row in rows:
        sizes = [row[name] for name in ("weights", "gradients", "moments")] + [row["most"][name] for name in STEPS]
        shown = [row["backbone"], row["length"], row["method"], f"{row['trained']:,}"]
        lines.append("| " + " | ".join(map(str, shown + [f"{size / 2**20:,.1f}" for size in sizes])) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help="JSON Lines with text and label, .gz or not")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--lengths", type=int, nargs="+", default=[256])
    parser.add_argument("--backbones", nargs="+", choices=setting.SHAPES, default=setting.MEASURED)
    parser.add_argument("--methods", nargs="+", choices=usual.METHODS, default=usual.METHODS)
    given = parser.parse_args()
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    texts, rows = setting.read_texts(given.texts, 32), []
    for name in given.backbones:
        folder = setting.backbone(name, given.texts, given.output / "backbones")
        for length in given.lengths:
            tokens = setting.encoded(texts, AutoTokenizer.from_pretrained(folder), length)
            for method in given.methods:
                found = {
                    step: step_bytes(
                        folder, method, len(set(texts.labels)), tokens, Training(epochs=2, select="last", **options)
                    )
                    for step, options in STEPS.items()
                }
                most = {step: sizes["most"] for step, sizes in found.items()}
                rows.append(found["loop"] | {"backbone": name, "length": length, "method": method, "most": most})
    print(f"{setting.machine()}. float32, steps of {len(texts.texts)} texts; in MB.\n")
    print(table(rows))


if __name__ == "__main__":
    main()
