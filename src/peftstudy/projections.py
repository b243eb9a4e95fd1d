"""The weight matrices of an encoder layer by the names that a configuration gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from peftstudy.shapes import Shape

if TYPE_CHECKING:
    from torch import nn

TARGETS = ("query", "key", "value", "attention-output", "intermediate", "output")


def pattern(shape: Shape, targets: Iterable[str]) -> str:
    """Return the regular expression by which peft finds the matrices, in every layer and nowhere else."""
    places = "|".join(re.escape(place) for place in _places(shape, targets))
    layers = re.escape(shape.about.layers.rpartition(".")[2])
    return rf".*\.{layers}\.\d+\.({places})"


def sizes(shape: Shape, targets: Iterable[str]) -> list[tuple[int, int]]:
    """Return inputs and outputs of the matrices of one layer, each once."""
    return [shape.matrices[place] for place in _places(shape, targets)]


def problem(targets: Iterable[str]) -> str | None:
    """Return what is wrong with a list of targets, if anything."""
    targets = list(targets)
    if not targets or not set(targets) <= set(TARGETS):
        return f"targets {targets}: want one or more of {', '.join(TARGETS)}"
    return None


def modules(model: Any, shape: Shape, targets: Iterable[str]) -> list[nn.Module]:
    """Return the modules of the matrices, those of the first layer first."""
    place = re.compile(pattern(shape, targets))
    return [module for name, module in model.named_modules() if place.fullmatch(name)]


def _places(shape: Shape, targets: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(shape.about.places[target] for target in targets))
