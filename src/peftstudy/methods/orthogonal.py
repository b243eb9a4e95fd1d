"""Rotations of weight matrices, by peft: OFT and HRA."""

from dataclasses import dataclass

from peftstudy import projections
from peftstudy.methods import Method, register


@register("oft")
@dataclass(frozen=True)
class OFT(Method):
    """Turn what weight matrices read, block by block, by trained orthogonal matrices (Qiu et al., 2023)."""

    block: int = 32
    targets: tuple[str, ...] = ("query", "value")

    citation = "qiu2023oft"
    trains = "rotations of blocks"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)

    def problem(self):
        return f"block {self.block}: must be at least 2" if self.block < 2 else projections.problem(self.targets)

    def skip(self, shape):
        for inputs, _ in projections.sizes(shape, self.targets):
            if inputs % self.block:
                return f"blocks of {self.block} do not divide the {inputs} inputs of a matrix"

    def adapt(self, model, shape):
        from peft import OFTConfig, inject_adapter_in_model

        config = OFTConfig(
            oft_block_size=self.block,
            use_cayley_neumann=False,  # a series instead of the inverse: faster, and not quite orthogonal
            target_modules=projections.pattern(self.targets),
        )
        return inject_adapter_in_model(config, model)

    def count(self, shape):
        # A rotation is the Cayley transform of a skew-symmetric matrix.
        blocks = sum(inputs // self.block for inputs, _ in projections.sizes(shape, self.targets))
        return shape.layers * blocks * self.block * (self.block - 1) // 2


@register("hra")
@dataclass(frozen=True)
class HRA(Method):
    """Turn weight matrices by a chain of trained Householder reflections (Yuan et al., 2024).

    rank: how many; even, so that pairs of equal ones leave the backbone as it is at the start.
    """

    rank: int = 8
    targets: tuple[str, ...] = ("query", "value")

    citation = "yuan2024hra"
    trains = "chains of reflections"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)

    def problem(self):
        if self.rank < 2 or self.rank % 2:
            return f"rank {self.rank}: must be even, and at least 2"
        return projections.problem(self.targets)

    def adapt(self, model, shape):
        from peft import HRAConfig, inject_adapter_in_model

        return inject_adapter_in_model(HRAConfig(r=self.rank, target_modules=projections.pattern(self.targets)), model)

    def count(self, shape):
        return shape.layers * self.rank * sum(inputs for inputs, _ in projections.sizes(shape, self.targets))
