"""The output of a frozen body, computed once for each example."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from peftstudy import writing
from peftstudy.tokens import Tokens
from peftstudy.tricks import dropout
from peftstudy.tricks.wrapping import wrap

PARTS = ("embeddings", "encoder")
BATCH = 32  # examples; larger ones are no faster


def parts(model: nn.Module) -> list[nn.Module]:
    """Return the embeddings and the encoder of an encoder model, adapted or not; of others, the body as it is."""
    found = [next((m for n, m in model.named_modules() if n.split(".")[-1] == name), None) for name in PARTS]
    return [writing.library_model(model).base_model] if None in found else found


def is_frozen(model: nn.Module) -> bool:
    """Return whether nothing trains in the model's body."""
    return not any(parameter.requires_grad for part in parts(model) for parameter in part.parameters())


def drops(model: nn.Module) -> bool:
    """Return whether dropout acts in the model's body."""
    return dropout.acts(parts(model))


def repeats_itself(model: nn.Module) -> bool:
    """Return whether the body gives an example the same states each time, and is embeddings and encoder alone."""
    return is_frozen(model) and not drops(model) and not hasattr(model.base_model, "embeddings_project")


class FrozenBody:
    """A frozen body that sees each example once; of what it has seen, the head alone is computed.

    compute: gives what the head reads of examples by number, shape (examples, 1, width).
    """

    def __init__(self, model: nn.Module, compute: Callable[[Tokens, np.ndarray], Tensor]) -> None:
        self.model, self.compute = model, compute
        self._tokens: Tokens | None = None
        self._there, self._states = np.zeros(0, dtype=bool), torch.empty(0)
        self._answer: Tensor | None = None
        wrap(parts(model)[-1], self._encode)

    def see(self, tokens: Tokens, index: np.ndarray) -> None:
        """Compute the states of the examples numbered `index`, in batches that depend on nothing else.

        Rounding depends on the batch, and a resumed run must not see an example in another than the first one did.
        """
        by_length = np.sort(index)
        by_length = by_length[np.argsort(tokens.lengths[by_length], kind="stable")]
        for start in range(0, len(by_length), BATCH):
            self._of(tokens, by_length[start : start + BATCH])

    def logits(self, tokens: Tokens, index: np.ndarray) -> Tensor:
        """Return the model's logits of the examples numbered `index`, shape (examples, outputs)."""
        self._answer = self._of(tokens, index)
        try:
            one = torch.ones(1, 1, dtype=torch.long, device=self._answer.device)  # stands for all; nobody reads it
            return self.model(input_ids=one, attention_mask=one).logits
        finally:
            self._answer = None

    def _of(self, tokens: Tokens, index: np.ndarray) -> Tensor:
        """Return the states of the examples numbered `index`; those not seen before are computed."""
        if self._tokens is not tokens:
            self._tokens = tokens
            self._there, self._states = np.zeros(len(tokens.lengths), dtype=bool), torch.empty(0)
        fresh = index[~self._there[index]]
        if len(fresh):
            # Evaluation may come first, and training must be able to use what it left.
            with torch.inference_mode(False), torch.no_grad():
                states = self.compute(tokens, fresh)
                if not len(self._states):
                    self._states = states.new_zeros(len(self._there), *states.shape[1:])
                self._states[self._places(fresh)] = states
            self._there[fresh] = True
        return self._states[self._places(index)]

    def _places(self, index: np.ndarray) -> Tensor:
        return torch.from_numpy(index).to(self._states.device)

    def _encode(self, original: Callable, encoder: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self._answer is None:
            return original(*args, **kwargs)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=self._answer)
