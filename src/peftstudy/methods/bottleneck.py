"""Bottleneck adapters, by the adapters library."""

from dataclasses import dataclass
from typing import ClassVar

from peftstudy.methods import Method, register


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
    settings: ClassVar[dict[str, str]] = {}
    """What the library is told beside the size."""
    trains = "a bottleneck module a layer"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)

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


@register("houlsby")
@dataclass(frozen=True)
class Houlsby(Bottleneck):
    """Train a bottleneck module after each attention and feed-forward block (Houlsby et al., 2019).

    Unlike in the paper, the backbone's layer norms stay frozen, as in the adapters library.
    """

    citation = "houlsby2019adapter"
    trains = "two bottleneck modules a layer"
    modules = 2
    configuration = "DoubleSeqBnConfig"
    settings: ClassVar[dict[str, str]] = {"init_weights": "houlsby"}
    start = "near the identity, as published: bottleneck weights are drawn with standard deviation 0.01"


@register("pfeiffer")
@dataclass(frozen=True)
class Pfeiffer(Bottleneck):
    """Train a bottleneck module after each feed-forward block (Pfeiffer et al., 2021)."""

    citation = "pfeiffer2021adapterfusion"
    configuration = "SeqBnConfig"
    start = "near the identity: the library draws bottleneck weights with standard deviation 0.02"


@register("parallel")
@dataclass(frozen=True)
class Parallel(Bottleneck):
    """Train a bottleneck module beside each feed-forward block, scaled by 4 (He et al., 2022).

    The default size is that of the other bottlenecks here; the paper's are wider (512 of 1,024).
    """

    citation = "he2022unified"
    configuration = "ParBnConfig"


@register("compacter")
@dataclass(frozen=True)
class Compacter(Bottleneck):
    """Houlsby's modules of sums of Kronecker products, with factors that all share (Karimi Mahabadi et al., 2021).

    The width is rounded down to a multiple of the four summands of each matrix.
    """

    reduction: int = 32

    citation = "mahabadi2021compacter"
    trains = "two factorised bottleneck modules a layer"
    modules = 2
    configuration = "CompacterConfig"
    summands = 4

    def problem(self):
        if self.size is not None and self.size % self.summands:
            return f"size {self.size}: must be a multiple of {self.summands}"
        return super().problem()

    def skip(self, shape):
        return f"{self.summands} does not divide the hidden width" if shape.hidden % self.summands else None

    def width(self, shape):
        return max(self.summands, super().width(shape) // self.summands * self.summands)

    def count(self, shape):
        width = self.width(shape)
        return shape.layers * self.modules * (3 * (shape.hidden + width)) + self.summands**3
