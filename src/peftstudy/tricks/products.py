"""Matrix products of linear layers by oneDNN, which uses the widest registers of any x86 processor.

Torch leaves products in float32 to MKL. On a processor of AMD that takes registers of half the width, so
each product twice the time; on Intel's both are alike. Torch ships oneDNN too, for convolutions and bfloat16.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from peftstudy.tricks.wrapping import wrap

SMALL = 2**19  # multiplications: a smaller product takes less time than oneDNN's preparations


def available() -> bool:
    """Whether torch has what computes them here."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def possible() -> bool:
    """Whether it is there, and the processor has registers that MKL may leave idle."""
    return available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def replace(model: nn.Module) -> None:
    """Let the model's linear layers compute by oneDNN; what a method puts in a layer's place stays as it is."""
    for module in model.modules():
        if type(module) in (nn.Linear, Conv1D) or _is_plain(module):
            wrap(module, _apply)


def _is_plain(module: nn.Module) -> bool:
    """Whether it is a layer that the adapters library made its own, in case of LoRA, and there is none in it."""
    return isinstance(module, nn.Linear) and hasattr(module, "loras") and not module.loras


def _apply(original: Callable, layer: nn.Linear | Conv1D, states: Tensor) -> Tensor:
    is_small = states.shape[:-1].numel() * layer.weight.numel() < SMALL
    if is_small or torch.is_autocast_enabled("cpu") or not states.dtype == layer.weight.dtype == torch.float32:
        return original(states)
    is_transposed = isinstance(layer, Conv1D) or getattr(layer, "fan_in_fan_out", False)  # GPT-2's are
    weight = layer.weight.t() if is_transposed else layer.weight
    rows = Linear.apply(states.reshape(-1, states.shape[-1]), weight, layer.bias)
    return rows.view(*states.shape[:-1], -1)


class Linear(torch.autograd.Function):
    """states weight' + bias.

    states: shape (rows, inputs). weight: shape (outputs, inputs). bias: shape (outputs,), or None.
    Returns shape (rows, outputs).
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        trains_states, trains_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(states if trains_weight else None, weight if trains_states else None)
        return _times_transposed(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        of_states = None if weight is None else _times_transposed(gradient, weight.t())
        of_weight = None if states is None else _shared(gradient, states)
        return of_states, of_weight, gradient.sum(0) if ctx.needs_input_grad[2] else None


def _shared(one: Tensor, other: Tensor) -> Tensor:
    """Return one' other, shape (width of one, width of other); the wider factor in front is the faster way."""
    if one.shape[1] > other.shape[1]:
        return _times_transposed(other.t(), one.t()).t()
    return _times_transposed(one.t(), other.t())


def _times_transposed(one: Tensor, other: Tensor, added: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(one, other, added, "none", [], "")
