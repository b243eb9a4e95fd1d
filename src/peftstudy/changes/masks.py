"""Which positions of the batch on its way through a model are tokens, and which are padding."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Mask:
    """The attention mask of a model's current batch, shape (texts, length); None when all positions are tokens.

    names: what the model's inputs call it; the first of them that is given is taken.
    """

    def __init__(self, model: Any, names: Sequence[str] = ("attention_mask",)) -> None:
        self.names = names
        self.mask: Tensor | None = None
        model.register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self.mask = next((kwargs[name] for name in self.names if name in kwargs), None)

    def mean(self, states: Tensor) -> Tensor:
        """Return the mean over the tokens of each text: (texts, length, width) -> (texts, 1, width)."""
        tokens = torch.ones_like(states[..., :1]) if self.mask is None else self.mask[..., None].to(states.dtype)
        return (states * tokens).sum(1, keepdim=True) / tokens.sum(1, keepdim=True)
