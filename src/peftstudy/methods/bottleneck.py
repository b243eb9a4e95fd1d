"""Bottleneck adapters, by the adapters library."""

from dataclasses import dataclass
from typing import ClassVar

from peftstudy.bottlenecks import Bottleneck
from peftstudy.methods import register


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


@register("pfeiffer")
@dataclass(frozen=True)
class Pfeiffer(Bottleneck):
    """Train a bottleneck module after each feed-forward block (Pfeiffer et al., 2021)."""

    citation = "pfeiffer2021adapterfusion"
    configuration = "SeqBnConfig"


@register("parallel")
@dataclass(frozen=True)
class Parallel(Bottleneck):
    """Train a bottleneck module beside each feed-forward block, scaled by 4 (He et al., 2022)."""

    citation = "he2022unified"
    configuration = "ParBnConfig"


@register("compacter")
@dataclass(frozen=True)
class Compacter(Bottleneck):
    """Houlsby's modules with matrices made of Kronecker products, whose left factors all share (Mahabadi et al., 2021).

    The width is rounded down to a multiple of the four summands of each matrix.
    """

    reduction: int = 32

    citation = "mahabadi2021compacter"
    trains = "two factorised bottleneck modules a layer"
    modules = 2
    configuration = "CompacterConfig"
    settings: ClassVar[dict[str, str]] = {}
    start = ""
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
