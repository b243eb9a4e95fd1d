"""The weight matrices of an encoder layer by the names that a configuration gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from peftstudy.shapes import Shape

if TYPE_CHECKING:
    from torch import nn

# Whole paths within a layer: by its last words alone, the feed-forward's output.dense is
# also the attention's.
PLACES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention-output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}


def pattern(shape: Shape, targets: Iterable[str]) -> str:
    """Return the regular expression by which peft finds the matrices, in every layer and nowhere else."""
    places = "|".join(PLACES[target].replace(".", r"\.") for target in targets)
    return rf".*\.layer\.\d+\.({places})"


def sizes(shape: Shape, targets: Iterable[str]) -> list[tuple[int, int]]:
    """Return inputs and outputs of the matrices of one layer, each target once."""
    special = {"intermediate": (shape.hidden, shape.intermediate), "output": (shape.intermediate, shape.hidden)}
    return [special.get(target, (shape.hidden, shape.hidden)) for target in dict.fromkeys(targets)]


def problem(targets: Iterable[str]) -> str | None:
    """Return what is wrong with a list of targets, if anything."""
    targets = list(targets)
    if not targets or not set(targets) <= PLACES.keys():
        return f"targets {targets}: want one or more of {', '.join(PLACES)}"
    return None


def modules(model: Any, shape: Shape, targets: Iterable[str]) -> list[nn.Module]:
    """Return the modules of the matrices, those of the first layer first."""
    place = re.compile(pattern(shape, targets))
    return [module for name, module in model.named_modules() if place.fullmatch(name)]
