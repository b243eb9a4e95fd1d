"""LoHa, by peft."""

from dataclasses import dataclass

from peftstudy import projections
from peftstudy.methods import Method, register


@register("loha")
@dataclass(frozen=True)
class LoHa(Method):
    """Add the elementwise product of two trained low-rank products to weight matrices (Hyeon-Woo et al., 2022)."""

    rank: int = 8
    alpha: float = 8
    targets: tuple[str, ...] = ("query", "value")

    citation = "hyeonwoo2022fedpara"
    trains = "elementwise products of low-rank updates"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)

    def problem(self):
        if self.rank < 1 or self.alpha <= 0:
            return f"rank {self.rank}, alpha {self.alpha}: want 1 or more, and above 0"
        return projections.problem(self.targets)

    def adapt(self, model, shape):
        from peft import LoHaConfig, inject_adapter_in_model

        config = LoHaConfig(r=self.rank, alpha=self.alpha, target_modules=projections.pattern(self.targets))
        return inject_adapter_in_model(config, model)

    def count(self, shape):
        ends = sum(inputs + outputs for inputs, outputs in projections.sizes(shape, self.targets))
        return shape.layers * 2 * self.rank * ends
