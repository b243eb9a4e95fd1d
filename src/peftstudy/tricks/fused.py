"""Attention of packed batches in one pass, in C: a block of rows stays in the processor's cache until it is done.

By torch's operators the same is a dozen passes over all weights: product, mask, softmax, noise, dropout, product.
What is computed, and its gradient, are those of tricks.packing.Attention; the C is in attention.c.
"""

import ctypes
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from peftstudy import writing
from peftstudy.tricks import compiled
from peftstudy.tricks.dropout import WORD
from peftstudy.tricks.packing import Attention, Layout
from peftstudy.tricks.step import Step

TYPES = (torch.float32, torch.bfloat16)
PADDED = 16  # as in attention.c: rows of weights are padded to multiples of it, and heads have to be such


def possible() -> bool:
    """Whether this machine compiled the C, or can."""
    return _functions() is not None


def fits(model: nn.Module) -> bool:
    """Whether a model's heads are multiples of PADDED wide, its weights of a type that is taken, and the C is there."""
    config = writing.library_model(model).config
    depth = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return depth % PADDED == 0 and next(model.parameters()).dtype in TYPES and possible()


def attend(
    step: Step, query: Tensor, key: Tensor, value: Tensor, heads: int, rate: float, causal: bool = False
) -> Tensor:
    """Return what tokens attend to, each within its text of the batch under way; see tricks.packing.Attention.

    rate: at which attention weights are dropped.
    """
    layout = step.batch.layout
    if step.is_fused and len(query) == len(key):
        seed = step.masks.word() if rate else 0
        states = (part.float() for part in (query, key, value))
        return Fused.apply(*states, layout, heads, rate, causal, seed).to(query.dtype)
    return Attention.apply(query, key, value, layout, heads, step.masks.noise(rate), causal)


class _Batch(ctypes.Structure):
    """What attention.c calls a batch."""

    _fields_ = (
        ("offsets", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("heads", ctypes.c_int64),
        ("depth", ctypes.c_int64),
        ("causal", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
        ("threshold", ctypes.c_uint32),
        ("factor", ctypes.c_float),
    )


class Fused(torch.autograd.Function):
    """softmax(q k' / sqrt(d)) v within each text of a packed batch, with dropout on the weights.

    query, key, value: shape (tokens, width), float32. Returns the same shape. causal: whether a token sees itself and
    those before it alone. seed: of the dropout masks, 64 bits; each head of each text has its own numbers.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: Layout,
        heads: int,
        rate: float,
        causal: bool,
        seed: int,
    ) -> Tensor:
        query, key, value = (states.contiguous() for states in (query, key, value))
        padded = -(-layout.lengths // PADDED) * PADDED
        ctx.layout = layout
        ctx.offsets = layout.offsets.astype(np.int64)
        ctx.places = np.concatenate([[0], np.cumsum(heads * layout.lengths * padded)]).astype(np.int64)
        about = (heads, query.shape[1] // heads, causal, seed, round(rate * WORD), 1 / (1 - rate))
        ctx.batch = _Batch(ctx.offsets.ctypes.data, ctx.places.ctypes.data, *about)
        kept = query.new_empty(int(ctx.places[-1])) if any(ctx.needs_input_grad[:3]) else None
        (answer,) = _like(query, layout, 1)
        _over_texts(_functions()[0], ctx.batch, layout, (query, key, value, answer, kept))
        ctx.save_for_backward(query, key, value, kept)
        return answer

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradient.contiguous()  # what is made like it must be too: the C goes row by row
        *states, kept = ctx.saved_tensors
        found = _like(gradient, ctx.layout, 3)
        _over_texts(_functions()[1], ctx.batch, ctx.layout, (*states, kept, gradient, *found))
        return *found, None, None, None, None, None


def _like(states: Tensor, layout: Layout, count: int) -> list[Tensor]:
    """Return tensors to be filled text by text; nobody reads the tail, but it must not be what memory happens to be."""
    found = [torch.empty_like(states) for _ in range(count)]
    for tensor in found:
        tensor[layout.tokens - layout.tail :] = 0
    return found


def _over_texts(work: Callable, batch: _Batch, layout: Layout, tensors: Sequence[Tensor | None]) -> None:
    """Let `work` do all texts, on as many threads as torch may use; numbers are the same on any."""
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    threads = min(torch.get_num_threads(), len(layout.lengths))
    done = np.cumsum(layout.lengths.astype(float) ** 2)
    shares = np.searchsorted(done, done[-1] * np.arange(1, threads) / threads)
    bounds = [0, *map(int, shares), len(layout.lengths)]

    def part(number: int) -> int:
        return work(ctypes.byref(batch), bounds[number], bounds[number + 1], *pointers)

    if any(_on_threads(part, threads) if threads > 1 else [part(0)]):
        raise MemoryError("no memory for a row of attention weights")


def _on_threads(part: Callable[[int], int], threads: int) -> list[int]:
    """Return what the parts give; an interrupt waits for them, for they write to memory that would be freed."""
    futures = [_pool(threads).submit(part, number) for number in range(threads)]
    try:
        return [future.result() for future in futures]
    finally:
        wait(futures)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


@functools.cache
def _functions() -> tuple[Any, Any] | None:
    """Return attention.c's forward and backward."""
    library = compiled.library("attention")
    if library is None:
        return None
    for function, tensors in ((library.forward, 5), (library.backward, 8)):
        function.argtypes = [ctypes.POINTER(_Batch), *[ctypes.c_long] * 2, *[ctypes.c_void_p] * tensors]
    return library.forward, library.backward
