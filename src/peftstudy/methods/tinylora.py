"""TinyLoRA, Uni-LoRA and FRoD, by peft: a few numbers that fixed projections spread over weight matrices."""

from dataclasses import dataclass

from peftstudy.changes.injection import PAST, leave_sparse_unchecked, seed
from peftstudy.families import BOTH
from peftstudy.methods import register
from peftstudy.methods.vera import Shared


@register("tinylora")
@dataclass(frozen=True)
class TinyLoRA(Shared):
    """Mix random matrices between the largest singular vectors of each weight matrix (Morris et al., 2026).

    rank: how many singular vectors; the paper has 2.
    numbers: of what is trained for each weight matrix; peft has 64. The paper shares them among matrices, down to 13
    for a whole model, in reinforcement learning.
    """

    rank: int = 2
    numbers: int = 64

    citation = "morris2026tinylora"
    trains = "the shares of random matrices in updates"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    configuration = "TinyLoraConfig"

    def unfit(self):
        if self.rank < 1 or self.numbers < 1:
            return f"rank {self.rank}, numbers {self.numbers}: each must be at least 1"

    def settings(self):
        return {"r": self.rank, "u": self.numbers, "projection_seed": seed()}

    def update(self, inputs, outputs):
        return self.numbers


@register("unilora")
@dataclass(frozen=True)
class UniLoRA(Shared):
    """Fill the factors of all low-rank updates from one vector, each entry at random places (Li et al., 2025).

    rank: of the updates; the authors' code has 4 on GLUE.
    length: of the vector; the authors' code has 23,040 for RoBERTa-base on GLUE, peft 256.
    """

    rank: int = 4
    length: int = 256

    citation = "li2025unilora"
    trains = "one vector that all low-rank updates share"
    learning_rates = (3e-3, 1e-2, 3e-2, 1e-1)
    start = "the vector is drawn at random, as published"
    configuration = "UniLoraConfig"

    def unfit(self):
        if self.rank < 1 or self.length < 1:
            return f"rank {self.rank}, length {self.length}: each must be at least 1"

    def settings(self):
        return {"r": self.rank, "theta_d_length": self.length, "proj_seed": seed()}

    def count(self, shape):
        return self.length


@register("frod")
@dataclass(frozen=True)
class FRoD(Shared):
    """Scale and sparsely turn a basis that the weight matrices of all layers share (Wan et al., 2026).

    share: of the entries of the turning matrix that are trained; peft has 0.01.
    """

    share: float = 0.01

    citation = "wan2026frod"
    trains = "scales and sparse turns of a shared basis"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    configuration = "FrodConfig"
    sole = PAST
    innermost = True

    def unfit(self):
        return None if 0 < self.share < 1 else f"share {self.share}: want more than 0, less than 1"

    def skip(self, shape):
        if shape.about.kind == BOTH:
            return "peft would make one basis of an encoder's and a decoder's matrices, from the last alone"
        return super().skip(shape)

    def settings(self):
        return {"sparse_rate": self.share, "projection_prng_key": seed(), "progressbar": False}

    def adapt(self, model, shape):
        leave_sparse_unchecked()
        return super().adapt(model, shape)

    def update(self, inputs, outputs):
        return inputs + min(max(1, int(inputs**2 * self.share)), inputs**2 - inputs)
