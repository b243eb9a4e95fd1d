"""The weight matrices of a layer by the names that a configuration gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from peftstudy.shapes import Shape

if TYPE_CHECKING:
    from torch import nn

TARGETS = ("query", "key", "value", "attention-output", "intermediate", "output")


def places(model: Any, shape: Shape, targets: Iterable[str]) -> str:
    """Return the regular expression by which peft finds the matrices, in every layer and nowhere else.

    GPT-2's, which are kept transposed, become linear layers first: many methods know nothing else.
    """
    straighten(model)
    return pattern(shape, targets)


def pattern(shape: Shape, targets: Iterable[str]) -> str:
    """Return a regular expression for the paths of the matrices within a model."""
    stacks = []
    for stack in shape.stacks:
        found = "|".join(re.escape(place) for place in stack.of(targets))
        stacks.append(rf"{re.escape(stack.layers)}\.\d+\.({found})")
    return rf"(.*\.)?({'|'.join(stacks)})"


def sizes(shape: Shape, targets: Iterable[str]) -> list[tuple[int, int]]:
    """Return inputs and outputs of the matrices of all layers."""
    return [size for stack in shape.stacks for size in stack.sizes(targets)]


def problem(targets: Iterable[str]) -> str | None:
    """Return what is wrong with a list of targets, if anything."""
    targets = list(targets)
    if not targets or not set(targets) <= set(TARGETS):
        return f"targets {targets}: want one or more of {', '.join(TARGETS)}"
    return None


def modules(model: Any, shape: Shape, targets: Iterable[str]) -> list[nn.Module]:
    """Return the modules of the matrices, those of the first layer first."""
    place = re.compile(places(model, shape, targets))
    return [module for name, module in model.named_modules() if place.fullmatch(name)]


def straighten(model: Any) -> None:
    """Replace GPT-2's transposed matrices by linear layers of the same outputs.

    The parameters remain the same objects: another part of a combination may have marked them.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    for path, module in list(model.named_modules()):
        if type(module) is Conv1D:
            with_same = nn.Linear(*module.weight.shape, device=module.weight.device)
            module.weight.data = module.weight.detach().T.contiguous()
            with_same.weight, with_same.bias = module.weight, module.bias
            model.set_submodule(path, with_same)
