"""Which hidden states the adapters library's representation edits are made to."""

from __future__ import annotations

from typing import Any

import torch


def keep_within(model: Any) -> Any:
    """Let the edits of a text that ends before the first states asked for end with it; return the model.

    The library counts on from the first token, also where a decoder's padding stands in front and nothing follows the
    text: it would look for states behind the last one. The last is edited instead, and once, for its edit is the same.
    It also keeps the places in an encoder's text for the decoder's, which may be shorter, or longer.
    """
    from adapters.methods.reft import ReftModule

    for module in model.modules():
        if isinstance(module, ReftModule):
            module.register_forward_pre_hook(_within)
    return model


def _within(module: Any, args: tuple[torch.Tensor, ...]) -> None:
    from adapters.context import ForwardContext

    context, (batch, length, width) = ForwardContext.get_context(), args[0].shape
    places = torch.arange(module.prefix_positions, device=args[0].device).view(1, -1, 1)
    if hasattr(context, "offsets"):
        places = places + context.offsets.view(-1, 1, 1)
    context.pref_idx = places.clamp(max=length - 1).expand(batch, -1, width)
