"""LoRA, by peft."""

from dataclasses import dataclass

from peftstudy import projections
from peftstudy.methods import Method, register


@register("lora")
@dataclass(frozen=True)
class LoRA(Method):
    """Add a trained product of two low-rank matrices to chosen weight matrices (Hu et al., 2022).

    The product is scaled by alpha / rank, or by alpha / sqrt(rank) when it is rank-stabilised
    (Kalajdzievski, 2023).
    """

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    rank_stabilised: bool = False
    targets: tuple[str, ...] = ("query", "value")

    citation = "hu2022lora"
    trains = "low-rank updates of weight matrices"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    weight_decomposed = False

    def problem(self):
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            return f"rank {self.rank}, alpha {self.alpha}, dropout {self.dropout}: want 1 or more, above 0, in [0, 1)"
        return projections.problem(self.targets)

    def adapt(self, model, shape):
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            use_rslora=self.rank_stabilised,
            use_dora=self.weight_decomposed,
            target_modules=projections.pattern(self.targets),
        )
        return inject_adapter_in_model(config, model)

    def count(self, shape):
        ends = sum(inputs + outputs for inputs, outputs in projections.sizes(shape, self.targets))
        return shape.layers * self.rank * ends


@register("dora")
@dataclass(frozen=True)
class DoRA(LoRA):
    """LoRA on the direction of each weight matrix, and a trained length for each of its outputs (Liu et al., 2024)."""

    citation = "liu2024dora"
    trains = "low-rank updates of directions, and lengths"
    weight_decomposed = True

    def count(self, shape):
        lengths = sum(outputs for _, outputs in projections.sizes(shape, self.targets))
        return super().count(shape) + shape.layers * lengths
