"""Activation checkpointing: layers forget what they computed, and compute it again for their gradients."""

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from peftstudy.tricks.step import Step


def recompute_layers(model: nn.Module, step: Step) -> None:
    """Keep of each layer what went in alone (Chen et al., 2016); a layer computed again is as it was."""
    library = next(module for module in model.modules() if hasattr(module, "gradient_checkpointing_enable"))
    library.gradient_checkpointing_enable({"use_reentrant": False})
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            checkpoint = layer._gradient_checkpointing_func
            layer._gradient_checkpointing_func = lambda compute, *args, checkpoint=checkpoint: checkpoint(
                _repeatable(compute, step), *args
            )


def _repeatable(compute: Callable, step: Step) -> Callable:
    """Return a layer's computation that finds, when it is repeated, its first call's batch and dropout masks."""
    first: list[tuple] = []

    def call(*args: Any) -> Any:
        if not first:
            first.append((step.batch, step.masks.words.state))
            return compute(*args)
        batch, state = first[0]
        with step.carrying(batch), step.masks.again(state):
            return compute(*args)

    return call
