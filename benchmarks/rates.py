"""How fast this processor multiplies matrices: torch's own operators, and what the engine puts in their place.

    python benchmarks/rates.py

In float32 on one thread, at the best of 20 rounds. Products are of linear layers: forward, and backward for states and
weights. Attention is within 32 texts of 100 to 512 tokens, with dropout, forward and backward. GFLOP/s count the
products alone, two operations for each multiplication with its addition. The engine leaves linear layers to torch where
no registers would be idle; what it could put in their place is measured all the same.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import setting
import torch

from peftstudy.tricks import dropout, fused, products
from peftstudy.tricks.packing import Attention, Layout

TOKENS = 4096
SHAPES = ((128, 128), (128, 512), (512, 128), (256, 256), (256, 1024), (1024, 256))
"""Inputs and outputs of linear layers in backbones of 128 and of 256 units."""
HEADS, WIDTH, RATE = 2, 128, 0.1
ROUNDS = 20


def rate(work: Callable[[], Any], operations: float) -> str:
    """Return 10^9 operations a second, at the best of all rounds."""
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return f"{operations / min(seconds) / 1e9:.0f}"


def backward(compute: Callable[..., torch.Tensor], inputs: list[torch.Tensor]) -> Callable[[], Any]:
    answer = compute(*inputs)
    gradient = torch.randn_like(answer)
    return lambda: torch.autograd.grad(answer, inputs, gradient, retain_graph=True)


def rates(torchs: Callable, ours: Callable, inputs: list[torch.Tensor], operations: float) -> str:
    cells = [rate(partial(compute, *inputs), operations) for compute in (torchs, ours)]
    return " | ".join(cells + [rate(backward(compute, inputs), 2 * operations) for compute in (torchs, ours)])


def main() -> None:
    torch.set_num_threads(1)
    print(f"{setting.machine()}; GFLOP/s.\n")
    print("| what | torch, forward | engine, forward | torch, backward | engine, backward |")
    print("| --- | --- | --- | --- | --- |")
    if products.available():
        for inputs, outputs in SHAPES:
            parts = [torch.randn(*shape, requires_grad=True) for shape in ((TOKENS, inputs), (outputs, inputs))]
            count = 2 * TOKENS * inputs * outputs
            plain, ours = torch.nn.functional.linear, lambda *given: products.Linear.apply(*given, None)
            print(f"| linear, {inputs} to {outputs} | {rates(plain, ours, parts, count)} |")
    if fused.possible():
        layout = Layout(np.sort(np.random.default_rng(0).integers(100, 513, 32)))
        parts = [torch.randn(layout.tokens, WIDTH, requires_grad=True) for _ in range(3)]
        noise = dropout.Masks(0, True).noise(RATE)
        count = float(4 * WIDTH * (layout.lengths.astype(float) ** 2).sum())
        plain, ours = (
            lambda *given: Attention.apply(*given, layout, HEADS, noise),
            lambda *given: fused.Fused.apply(*given, layout, HEADS, RATE, False, 0),
        )
        print(f"| attention, {HEADS} heads of {WIDTH // HEADS} | {rates(plain, ours, parts, count)} |")


if __name__ == "__main__":
    main()
