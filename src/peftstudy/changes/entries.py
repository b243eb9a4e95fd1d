"""Single entries of a backbone's frozen tensors, and trained values that are added to them."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from peftstudy.shapes import Shape


class Entries(nn.Module):
    """Trained values for entries of several tensors, counted through as if these were one.

    places: the entries' numbers, ascending, shape (values,).
    stored: whether the places are kept with the trained weights, for evaluation cannot find them again.
    """

    def __init__(self, places: Tensor, stored: bool) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(len(places)))
        self.register_buffer("chosen" if stored else "places", places, persistent=False)

    @property
    def numbers(self) -> Tensor:
        return self.chosen if hasattr(self, "chosen") else self.places


class Part(nn.Module):
    """What is added to one of the tensors, of that size, the first entry of which has the number `first`."""

    def __init__(self, entries: Entries, first: int, size: int) -> None:
        super().__init__()
        if not first:
            self.entries = entries  # the module that owns it; for the others it is no part of theirs
        self._entries = [entries]
        self.first, self.size = first, size
        self._known: tuple[Any, slice, Tensor] | None = None

    def forward(self, original: Tensor) -> Tensor:
        [entries] = self._entries
        own, places = self._own(entries.numbers)
        if not len(places):
            return original
        return original.flatten().index_add(0, places, entries.values[own].to(original.dtype)).view_as(original)

    def _own(self, numbers: Tensor) -> tuple[slice, Tensor]:
        key = (numbers.data_ptr(), numbers._version)  # they are written once, when chosen or loaded
        if self._known is None or self._known[0] != key:
            begin, end = torch.searchsorted(numbers, numbers.new_tensor([self.first, self.first + self.size])).tolist()
            self._known = key, slice(begin, end), numbers[begin:end] - self.first
        return self._known[1:]


def tensors(model: Any, shape: Shape) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    """Yield module, name and parameter of all that the backbone's weights hold, in a fixed order."""
    modules = dict(model.base_model.named_modules())
    if shape.pooler and shape.family == "modernbert":
        modules |= {f"head.{path}": module for path, module in model.head.named_modules()}
    for path, module in modules.items():
        if path.startswith("pooler") and not shape.pooler:
            continue
        for name, parameter in module.named_parameters(recurse=False):
            yield module, name, parameter


def train_entries(model: Any, shape: Shape, places: Tensor, stored: bool = False) -> Any:
    """Train the entries with these numbers and nothing else of the backbone; return the model."""
    entries = Entries(places, stored)
    first = 0
    for module, name, parameter in list(tensors(model, shape)):
        parametrize.register_parametrization(module, name, Part(entries, first, parameter.numel()), unsafe=True)
        first += parameter.numel()
    return model


def of(model: Any) -> Entries:
    """Return the entries that an adapted model trains."""
    return next(module for module in model.modules() if isinstance(module, Entries))


def originals(model: Any) -> list[nn.Parameter]:
    """Return the frozen tensors to which entries belong, in their order."""
    return [
        parametrized.original
        for module in model.modules()
        if parametrize.is_parametrized(module)
        for parametrized in module.parametrizations.values()
        if isinstance(parametrized[0], Part)
    ]


def largest(scores: list[Tensor], count: int) -> Tensor:
    """Return the numbers of the entries with the largest scores, ascending; the first of equals."""
    flat = torch.cat([score.flatten() for score in scores])
    return torch.argsort(flat, descending=True, stable=True)[:count].sort().values
