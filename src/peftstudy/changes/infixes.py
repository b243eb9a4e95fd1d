"""Keys and values that a decoder's tokens attend to from a place in the text on."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask

from peftstudy.shapes import Shape

NAME = "peftstudy-infix"


class Infix(nn.Module):
    """Keys and values for every layer.

    begins: at which token of each row the infix is seen first, shape (rows,) or (1,), padding counted; set by
    peftstudy.writing before the model is called.
    """

    def __init__(self, shape: Shape, tokens: int, inner: int | None) -> None:
        super().__init__()
        self.layers, self.tokens, made = shape.layers, tokens, 2 * shape.layers * shape.key_width
        self.begins: Tensor | None = None
        self.vectors = nn.Parameter(torch.randn(tokens, made if inner is None else shape.hidden))
        network = () if inner is None else (nn.Linear(shape.hidden, inner), nn.Tanh(), nn.Linear(inner, made))
        self.network = nn.Sequential(*network)

    def of(self, layer: int) -> Tensor:
        """Return a layer's keys and values, shape (2, tokens, width of keys)."""
        return self.network(self.vectors).view(self.tokens, self.layers, 2, -1)[:, layer].transpose(0, 1)

    def seen(self, asking: int, known: int) -> Tensor:
        """Return which of the last `asking` of `known` tokens see the infix, shape (rows or 1, asking), booleans."""
        if self.begins is None:
            raise ValueError("an infix stands before what is written: where that begins is known to peftstudy.writing")
        return torch.arange(known - asking, known, device=self.begins.device) >= self.begins[:, None]


def put_between(model: Any, shape: Shape, tokens: int, inner: int | None) -> Any:
    """Let the layers of a decoder attend to an infix; return the model."""
    model.infix = Infix(shape, tokens, inner)
    layers = shape.about.list_of_layers(model.base_model)
    place = shape.about.places["query"].rpartition(".")[0]
    for number, layer in enumerate(layers):
        # In a tuple, for the model holds the module already.
        layer.get_submodule(place).infix_and_layer = (model.infix, number)
    model.config._attn_implementation = NAME
    return model


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, **options: Any
) -> tuple[Tensor, None]:
    """Attend to the infix and to the text; all but options are shaped (rows, heads, tokens, depth)."""
    infix, layer = module.infix_and_layer
    rows, heads, known, depth = key.shape
    own = infix.of(layer).view(2, infix.tokens, heads, depth).transpose(1, 2).to(key.dtype)
    own_keys, own_values = own[:, None].expand(-1, rows, -1, -1, -1)
    unseen = ~infix.seen(query.shape[2], known)[:, None, :, None].expand(rows, 1, -1, infix.tokens)
    hidden = torch.zeros_like(unseen, dtype=attention_mask.dtype)
    hidden = hidden.masked_fill(unseen, torch.finfo(hidden.dtype).min)
    mask = torch.cat([hidden, attention_mask[..., :known]], dim=-1)
    options["is_causal"] = False  # the mask says all
    keys, values = torch.cat([own_keys, key], dim=2), torch.cat([own_values, value], dim=2)
    return sdpa_attention_forward(module, query, keys, values, mask, **options)


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, eager_mask)
