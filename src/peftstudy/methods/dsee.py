"""DSEE: sparse plus low-rank updates."""

from dataclasses import dataclass

from peftstudy.changes.injection import Injected
from peftstudy.methods import REWRITES, register


@register("dsee")
@dataclass(frozen=True)
class DSEE(Injected):
    """Add a low-rank product and a few single entries to weight matrices (Chen et al., 2023).

    What the paper prunes of the backbone for faster inference stays here.
    rank: of the product; the authors' example has 16.
    alpha: the product is scaled by alpha over the rank, here as for `lora`.
    entries: how many single ones a matrix has, where a decomposition of the pre-trained matrix into a low-rank and a
    sparse part puts the sparse one; the authors' example has 64.
    """

    rank: int = 8
    alpha: float = 16
    entries: int = 64

    citation = "chen2023dsee"
    trains = "low-rank and sparse updates"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    turn = REWRITES
    library = ""

    def unfit(self):
        if self.rank < 1 or self.alpha <= 0 or self.entries < 1:
            return f"rank {self.rank}, alpha {self.alpha}, entries {self.entries}: want 1 or more, above 0, 1 or more"

    def misfit(self, inputs, outputs):
        if self.rank > min(inputs, outputs) or self.entries > inputs * outputs:
            return f"rank {self.rank} and {self.entries} entries, and a matrix has {inputs} inputs, {outputs} outputs"

    def adapt(self, model, shape):
        from torch.nn.utils import parametrize

        from peftstudy.changes import projections
        from peftstudy.changes.sparse_low_rank import SparseLowRank

        for module in projections.modules(model, shape, self.targets):
            part = SparseLowRank(module.weight.detach(), self.rank, self.alpha / self.rank, self.entries)
            parametrize.register_parametrization(module, "weight", part, unsafe=True)
        return model

    def update(self, inputs, outputs):
        return self.rank * (inputs + outputs) + self.entries
