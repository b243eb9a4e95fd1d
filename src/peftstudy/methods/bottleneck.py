"""Bottleneck adapters in three places, by the adapters library."""

from dataclasses import dataclass

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
