"""Dropout: factors from a fast generator, and where dropout acts in a model."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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
