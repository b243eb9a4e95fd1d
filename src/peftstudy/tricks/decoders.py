"""Packed batches in GPT-2 and Llama: each token attends to those before it in its text, by transformers' interface.

Texts stand one after the other, their positions counted from 0 in each, as in tricks.packing.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention
from transformers.models.llama.modeling_llama import LlamaAttention, repeat_kv

NAME = "peftstudy-packed"


def attentions(model: nn.Module) -> list[Any]:
    """Return the attention modules of a decoder whose batches can be packed, the first layer's first."""
    found = [module for module in model.modules() if isinstance(module, GPT2Attention | LlamaAttention)]
    return [module for module in found if _is_plain(module)]


def _is_plain(module: Any) -> bool:
    config = module.config
    odd = ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn")
    return getattr(config, "scale_attn_weights", True) and not any(getattr(config, name, False) for name in odd)


def flat(query: Tensor, key: Tensor, value: Tensor, module: Any) -> tuple[Tensor, ...]:
    """Return queries, keys and values, as many heads of each, with one row a token: shape (tokens, width).

    Given: shape (1, heads, tokens, depth).
    """
    groups = getattr(module, "num_key_value_groups", 1)
    parts = (query, repeat_kv(key, groups), repeat_kv(value, groups))
    return tuple(part[0].transpose(0, 1).reshape(part.shape[2], -1) for part in parts)


def scattered(rows: Tensor, places: Tensor, tokens: int) -> Tensor:
    """Return rows at their places among `tokens`, which are zero elsewhere: shape (tokens, width)."""
    return rows.new_zeros(tokens, rows.shape[-1]).index_copy(0, places, rows)


def everything(device: torch.device) -> Tensor:
    """Return a mask that transformers takes as it is, making none, and that our attention does not look at."""
    return torch.zeros(1, 1, 1, 1, device=device)


def _attend(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, **options: Any) -> Any:
    return module.packed_attention(query, key, value, options.get("dropout", 0.0)), None


AttentionInterface.register(NAME, _attend)
