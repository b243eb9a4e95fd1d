"""Gates of the adapters library that average over the tokens of a text, and over no padding."""

from typing import Any

import torch
from torch import Tensor, nn

from peftstudy.changes.masks import Mask


class TokensGate(nn.Linear):
    """A gate whose mean over all positions, of its sigmoid, is the mean over the text's tokens.

    The library takes the mean of the sigmoid over positions; what is given to it is the same at each:
    the logit of the mean over tokens.
    """

    mask: Mask

    def forward(self, states: Tensor) -> Tensor:
        gates = super().forward(states).sigmoid()
        return torch.logit(self.mask.mean(gates), eps=1e-6).expand_as(gates)


def average_over_tokens(model: Any) -> Any:
    """Let every gate of an adapted model know which positions are padding."""
    mask = Mask(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and (name.endswith(".gate") or ".prefix_gates." in name):
            module.__class__ = TokensGate
            module.mask = mask
    return model
