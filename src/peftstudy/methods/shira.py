"""SHiRA, Super-Tuning, C3A and MiSS, by peft: sparse, circular and shard-wise updates of weight matrices."""

from dataclasses import dataclass

from peftstudy.changes.injection import PAST, Injected, Ranked, leave_sparse_unchecked, seed
from peftstudy.methods import register


@register("shira")
@dataclass(frozen=True)
class SHiRA(Ranked):
    """Train a few entries of weight matrices, at random places (Bhardwaj et al., 2024).

    rank: there are as many entries as a LoRA of that rank trains; peft has 32.
    """

    citation = "bhardwaj2024shira"
    trains = "random entries of weight matrices"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    configuration = "ShiraConfig"
    sole = PAST
    innermost = True

    def misfit(self, inputs, outputs):
        if self.update(inputs, outputs) > inputs * outputs:
            return f"{self.update(inputs, outputs)} entries, and a matrix has {inputs * outputs}"

    def settings(self):
        return {"r": self.rank, "random_seed": seed()}

    def adapt(self, model, shape):
        leave_sparse_unchecked()
        return super().adapt(model, shape)


@register("super-tuning")
@dataclass(frozen=True)
class SuperTuning(Injected):
    """Train the largest entries of weight matrices (Ilin et al., 2026).

    Of the paper's choices of entries, this is the one that needs no examples; `magnitude-share` chooses over the whole
    backbone. Supra, which adds low-rank updates, is left out.
    share: of a matrix's entries; peft has 0.01. The paper takes as many as a LoRA of rank 8 trains.
    """

    share: float = 0.01

    citation = "ilin2026super"
    trains = "the largest entries of weight matrices"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    configuration = "SupertuningConfig"
    sole = PAST
    innermost = True

    def unfit(self):
        return f"share {self.share}: want more than 0, at most 1" if not 0 < self.share <= 1 else None

    def misfit(self, inputs, outputs):
        return (
            f"{self.share:g} of a matrix's {inputs * outputs} entries is none"
            if not self.update(inputs, outputs)
            else None
        )

    def settings(self):
        return {"sparsity": 1 - self.share}

    def update(self, inputs, outputs):
        return int(inputs * outputs * (1 - (1 - self.share)))  # as the library rounds


@register("c3a")
@dataclass(frozen=True)
class C3A(Injected):
    """Add circular convolutions, block by block, to weight matrices (Chen et al., 2025).

    block: the length of a trained kernel, which divides all inputs and outputs; peft has 256, and counsels the largest.
    """

    block: int = 16

    citation = "chen2024c3a"
    trains = "kernels of circular convolutions"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    start = "the kernels are drawn at random, as published"
    configuration = "C3AConfig"

    def unfit(self):
        return f"block {self.block}: must be at least 1" if self.block < 1 else None

    def misfit(self, inputs, outputs):
        if inputs % self.block or outputs % self.block:
            return f"blocks of {self.block} do not divide a matrix of {inputs} inputs and {outputs} outputs"

    def settings(self):
        return {"block_size": self.block}

    def update(self, inputs, outputs):
        return inputs * outputs // self.block


@register("miss")
@dataclass(frozen=True)
class MiSS(Ranked):
    """Add a trained block to weight matrices that all shards of their inputs share (Kang and Yin, 2026).

    rank: the width of the block; peft has 64.
    """

    citation = "kang2024miss"
    trains = "blocks that shards of inputs share"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    configuration = "MissConfig"

    def misfit(self, inputs, outputs):
        return f"rank {self.rank}, and a matrix has {inputs} inputs" if self.rank > inputs else None

    def update(self, inputs, outputs):
        return self.rank * outputs
