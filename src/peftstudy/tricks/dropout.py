"""Dropout: factors from a fast generator, and where dropout acts in a model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peftstudy import devices
from peftstudy.tricks.packing import Noise
from peftstudy.tricks.wrapping import wrap

WORD = 2**16
RATES = ("dropout_prob", "dropout", "activation_dropout", "attention_dropout")
"""What modules call a rate at which they drop by themselves, without a module for it."""


def factors(words: Any, shape: Sequence[int], rate: float, dtype: torch.dtype) -> Tensor:
    """Return a tensor of 0 with probability `rate`, to the nearest 1/65,536, and else 1 / (1 - rate).

    words: a bit generator of numpy. Torch draws one number at a time, which takes as long as a matrix
    product; here four elements share a word of 64 bits.
    """
    size = int(np.prod(shape))
    drawn = np.asarray(words.random_raw(-(-size // 4))).view(np.uint16)[:size]
    kept = drawn >= round(rate * WORD)
    factor = torch.tensor(1 / (1 - rate), dtype=dtype)
    if dtype == torch.bfloat16:  # by its bits: numpy has no such type
        bits = np.multiply(kept, factor.view(torch.int16).numpy(), dtype=np.int16)
        return torch.from_numpy(bits).view(torch.bfloat16).view(shape)
    return torch.from_numpy(np.multiply(kept, factor.numpy(), dtype=factor.numpy().dtype)).view(shape)


class Masks:
    """Where the dropout masks of a step come from.

    words: the fast generator. is_fast: whether it draws them, and not torch.
    """

    def __init__(self, seed: int, is_fast: bool) -> None:
        self.words, self.is_fast = np.random.SFC64(seed), is_fast

    def begin(self, seed: int, step: int) -> None:
        """Seed those of a step; in each of several processes they are others, for both kinds of generators."""
        if devices.count() == 1:
            self.words = np.random.SFC64([seed, step])
        else:
            self.words = np.random.SFC64([seed, step, devices.number()])
            torch.manual_seed(int(self.words.random_raw()) >> 1)

    @contextmanager
    def again(self, state: Mapping[str, Any]) -> Iterator[None]:
        """Draw what was drawn from `state` on, and go on afterwards as if nothing had been drawn."""
        now, self.words.state = self.words.state, state
        try:
            yield
        finally:
            self.words.state = now

    def word(self) -> int:
        """Return 64 bits, of which others may draw."""
        return int(self.words.random_raw())

    def noise(self, rate: float) -> Noise | None:
        """Return what draws factors for attention weights: 0 with probability `rate`, else 1 / (1 - rate)."""
        if not rate:
            return None
        if self.is_fast:
            return lambda weights: factors(self.words, weights.shape, rate, weights.dtype)
        return lambda weights: nn.functional.dropout(torch.ones_like(weights), rate)


def replace(model: nn.Module, masks: Masks) -> None:
    """Let the model's dropout modules drop by our masks."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            wrap(module, _drop, masks=masks)


def _drop(original: Callable, module: nn.Dropout, states: Tensor, masks: Masks) -> Tensor:
    if not module.training or not module.p:
        return states
    return states * factors(masks.words, states.shape, module.p, states.dtype)


def acts(parts: Sequence[nn.Module]) -> bool:
    """Return whether training these modules drops anything."""
    return any((isinstance(m, nn.Dropout) and m.p) or any(map(m.__dict__.get, RATES)) for m in _modules(parts))


def stop(parts: Sequence[nn.Module]) -> None:
    """Let no dropout act in these modules; the model's configuration keeps its rates."""
    for module in _modules(parts):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in RATES:
            if isinstance(module.__dict__.get(name), float):
                setattr(module, name, 0.0)


def _modules(parts: Sequence[nn.Module]) -> Iterator[nn.Module]:
    return (module for part in parts for module in part.modules())
