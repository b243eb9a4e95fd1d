"""The output of a frozen body, computed once for each example."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peftstudy.tokens import Tokens
from peftstudy.tricks import dropout

PARTS = ("embeddings", "encoder")


def parts(model: nn.Module) -> list[nn.Module]:
    """Return the embeddings and the encoder of an encoder model, adapted or not; of others, the whole model."""
    found = [next((m for n, m in model.named_modules() if n.split(".")[-1] == name), None) for name in PARTS]
    return [model] if None in found else found


def is_frozen(model: nn.Module) -> bool:
    """Return whether nothing trains in the model's body."""
    return not any(parameter.requires_grad for part in parts(model) for parameter in part.parameters())


def drops(model: nn.Module) -> bool:
    """Return whether dropout acts in the model's body."""
    return dropout.acts(parts(model))


class States:
    """What the body makes of each example of a dataset: the states that the head reads.

    compute: gives them for examples by number, shape (examples, 1, width).
    """

    def __init__(self, tokens: Tokens, compute: Callable[[Tokens, np.ndarray], Tensor]) -> None:
        self.tokens, self.compute = tokens, compute
        self.there = np.zeros(len(tokens.lengths), dtype=bool)
        self.states = torch.empty(0)

    def of(self, index: np.ndarray) -> Tensor:
        """Return the states of the examples numbered `index`; those not seen before are computed."""
        fresh = index[~self.there[index]]
        if len(fresh):
            # Evaluation may come first, and training must be able to use what it left.
            with torch.inference_mode(False), torch.no_grad():
                states = self.compute(self.tokens, fresh)
                if not len(self.states):
                    self.states = states.new_zeros(len(self.there), *states.shape[1:])
                self.states[self._places(fresh)] = states
            self.there[fresh] = True
        return self.states[self._places(index)]

    def _places(self, index: np.ndarray) -> Tensor:
        return torch.from_numpy(index).to(self.states.device)


def answer(original: Callable, encoder: Any, states: Tensor | None, *args: Any, **kwargs: Any) -> Any:
    """Answer a call of the encoder with `states`, where there are any."""
    from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

    if states is None:
        return original(*args, **kwargs)
    return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=states)
