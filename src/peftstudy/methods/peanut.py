"""PEANuT, GLoRA and DEFT, by peft: updates of weight matrices that are made from the matrices themselves."""

from dataclasses import dataclass

from peftstudy.changes import projections
from peftstudy.changes.additions import Added
from peftstudy.changes.injection import PAST, Ranked
from peftstudy.methods import register


@register("peanut")
@dataclass(frozen=True)
class PEANuT(Ranked):
    """Update weight matrices by what a small network makes of them (Zhong et al., 2025).

    rank: the width of the network; the authors' code has 1 on GLUE, peft 32.
    depth: pairs of inner layers, with residual connections; peft has 0.
    """

    depth: int = 0

    citation = "zhong2025peanut"
    trains = "networks that make updates of matrices"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    configuration = "PeanutConfig"

    def unfit(self):
        return f"depth {self.depth}: must be at least 0" if self.depth < 0 else super().unfit()

    def settings(self):
        return {"r": self.rank, "depth": self.depth}

    def update(self, inputs, outputs):
        return 2 * self.rank * outputs + 2 * self.depth * self.rank**2


@register("glora")
@dataclass(frozen=True)
class GLoRA(Ranked):
    """Multiply weight matrices by low-rank products, add others, and move the biases along (Chavan et al., 2023).

    The paper searches the form of each of the five parts layer by layer; here all layers have those of peft: low rank
    for the matrices and what they add to biases, a number each for what multiplies biases and is added to them.
    rank: of each product; peft has 8.
    """

    citation = "chavan2023glora"
    trains = "low-rank factors and terms, moved biases"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    configuration = "GloraConfig"
    sole = PAST
    innermost = True

    def cannot_join(self, other):
        return "what the adapters library wraps is no plain matrix" if isinstance(other, Added) else None

    def count(self, shape):
        sizes = projections.sizes(shape, self.targets)
        biases = sum(self.rank * (inputs + 1) + 2 for inputs, _ in sizes) if shape.biased else 0
        return sum(2 * self.update(*size) for size in sizes) + biases


@register("deft")
@dataclass(frozen=True)
class DEFT(Ranked):
    """Take a trained subspace out of what weight matrices give, and put a low-rank update in (Kumar et al., 2026).

    Another DEFT than that of activation densities (Runwal et al., 2024), which is `density` here. The paper adapts
    models of images; the projection is peft's, which no orthogonality binds.
    rank: the dimensions of the subspace, the matrix's outputs at most; peft has 8.
    """

    citation = "kumar2026deft"
    trains = "a subspace taken out, and what is put in"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    configuration = "DeftConfig"
    sole = PAST
    innermost = True

    def misfit(self, inputs, outputs):
        return f"rank {self.rank}, and a matrix has {outputs} outputs" if self.rank > outputs else None
