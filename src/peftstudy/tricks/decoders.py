"""Packed batches in GPT-2 and Llama: each token attends to those before it in its text, by transformers' interface.

Texts stand one after the other, their positions counted from 0 in each, as in tricks.packing.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention
from transformers.models.llama.modeling_llama import LlamaAttention, repeat_kv

from peftstudy.families import FAMILIES
from peftstudy.tricks.fused import attend
from peftstudy.tricks.packing import computed
from peftstudy.tricks.step import Step
from peftstudy.tricks.wrapping import wrap

NAME = "peftstudy-packed"


def attentions(model: nn.Module) -> list[Any]:
    """Return the attention modules of a decoder whose batches can be packed, the first layer's first."""
    found = [module for module in model.modules() if isinstance(module, GPT2Attention | LlamaAttention)]
    return [module for module in found if _is_plain(module)]


def _is_plain(module: Any) -> bool:
    config = module.config
    odd = ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn")
    return getattr(config, "scale_attn_weights", True) and not any(getattr(config, name, False) for name in odd)


def pack(model: nn.Module, library: Any, step: Step, reads: bool) -> None:
    """Let attention know the batch's layout, and the last layer's feed-forward see what is read.

    library: the transformers model within. reads: whether the last layer is computed for that alone.
    """
    found = attentions(model)
    for attention in found:
        attention.packed_attention = partial(_attend, attention, step, reads and attention is found[-1])
        wrap(attention, _ask_for_packed, step=step)
    if reads:
        layers = FAMILIES[library.config.model_type].list_of_layers(library.base_model)
        wrap(layers[-1].mlp, _feed_forward, step=step)


def everything(device: torch.device) -> Tensor:
    """Return a mask that transformers takes as it is, making none, and that our attention does not look at."""
    return torch.zeros(1, 1, 1, 1, device=device)


def _ask_for_packed(original: Callable, attention: Any, *args: Any, step: Step, **kwargs: Any) -> Any:
    """Let the library's module ask for our attention while a packed batch is on its way, else (writing) for its own."""
    if step.batch is None:
        return original(*args, **kwargs)
    config = attention.config
    own, config._attn_implementation = config._attn_implementation, NAME
    try:
        return original(*args, **kwargs)
    finally:
        config._attn_implementation = own


def _attend(attention: Any, step: Step, reads: bool, query: Tensor, key: Tensor, value: Tensor, rate: float) -> Tensor:
    """Do what the attention of a decoder does for a packed batch; return (1, tokens, heads, depth)."""
    batch, (_, heads, tokens, _) = step.batch, query.shape
    query, key, value = _flat(*map(computed, (query, key, value)), attention)
    reads = reads and batch.firsts
    asking = query[batch.read] if reads else query
    context = attend(step, asking, key, value, heads, rate, causal=True)
    if reads:
        context = _scattered(context, batch.read, tokens)
    return context.view(1, tokens, heads, -1)


def _feed_forward(original: Callable, module: nn.Module, states: Tensor, step: Step) -> Tensor:
    if step.batch is None:
        return original(states)
    found = original(states[:, step.batch.read])
    return _scattered(found[0], step.batch.read, states.shape[1])[None]


def _flat(query: Tensor, key: Tensor, value: Tensor, module: Any) -> tuple[Tensor, ...]:
    """Return queries, keys and values, as many heads of each, with one row a token: shape (tokens, width).

    Given: shape (1, heads, tokens, depth).
    """
    groups = getattr(module, "num_key_value_groups", 1)
    parts = (query, repeat_kv(key, groups), repeat_kv(value, groups))
    return tuple(part[0].transpose(0, 1).reshape(part.shape[2], -1) for part in parts)


def _scattered(rows: Tensor, places: Tensor, tokens: int) -> Tensor:
    """Return rows at their places among `tokens`, which are zero elsewhere: shape (tokens, width)."""
    return rows.new_zeros(tokens, rows.shape[-1]).index_copy(0, places, rows)


def _interface(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, dropout: float = 0.0, **options: Any
) -> tuple[Tensor, None]:
    return module.packed_attention(query, key, value, dropout), None


AttentionInterface.register(NAME, _interface)
