"""Bottleneck modules of the adapters library: what the methods that add them share."""

from dataclasses import dataclass
from typing import ClassVar

from peftstudy.methods import Method


@dataclass(frozen=True)
class Bottleneck(Method):
    """A module that narrows hidden states, applies a non-linearity and widens them again, added to what it reads.

    size: the width within; when it is null, the hidden width divided by `reduction`.
    """

    size: int | None = None
    reduction: int = 16

    modules = 1
    """How many there are in a layer."""
    configuration = ""
    """The name of its configuration class in adapters."""
    settings: ClassVar[dict[str, str]] = {"init_weights": "houlsby"}
    """What the library is told beside the size."""
    trains = "a bottleneck module a layer"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    start = "near the identity, as published: bottleneck weights are drawn with standard deviation 0.01"

    def problem(self):
        if self.reduction < 1 or (self.size is not None and self.size < 1):
            return f"size {self.size}, reduction {self.reduction}: each must be at least 1"

    def width(self, shape):
        return self.size or max(1, shape.hidden // self.reduction)

    def adapt(self, model, shape):
        import adapters

        adapters.init(model)
        # The library rounds hidden / factor down; the half keeps that on the width that is meant.
        factor = shape.hidden / (self.width(shape) + 0.5)
        config = getattr(adapters, self.configuration)(reduction_factor=factor, **self.settings)
        model.add_adapter(self.name, config=config)
        # Activating resets first, and that warns unless an adapter is active already.
        with adapters.AdapterSetup(self.name):
            model.train_adapter(self.name)
        return model

    def count(self, shape):
        return shape.layers * self.modules * (2 * shape.hidden * self.width(shape) + self.width(shape) + shape.hidden)
