"""LoRA, by peft."""

from dataclasses import dataclass

from peftstudy.methods import Method, register

# Whole paths within a layer: by its last words alone, the feed-forward's output.dense is
# also the attention's.
PLACES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention-output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}


@register("lora")
@dataclass(frozen=True)
class LoRA(Method):
    """Add a trained product of two low-rank matrices to chosen weight matrices (Hu et al., 2022)."""

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = ("query", "value")

    citation = "hu2022lora"
    trains = "low-rank updates of weight matrices"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)

    def problem(self):
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            return f"rank {self.rank}, alpha {self.alpha}, dropout {self.dropout}: want 1 or more, above 0, in [0, 1)"
        if not self.targets or not set(self.targets) <= PLACES.keys():
            return f"targets {list(self.targets)}: want one or more of {', '.join(PLACES)}"

    def adapt(self, model, shape):
        from peft import LoraConfig, inject_adapter_in_model

        places = "|".join(PLACES[target].replace(".", r"\.") for target in self.targets)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=rf".*\.layer\.\d+\.({places})",
        )
        return inject_adapter_in_model(config, model)

    def count(self, shape):
        widths = {"intermediate": shape.hidden + shape.intermediate, "output": shape.intermediate + shape.hidden}
        ends = sum(widths.get(target, 2 * shape.hidden) for target in set(self.targets))
        return shape.layers * self.rank * ends
