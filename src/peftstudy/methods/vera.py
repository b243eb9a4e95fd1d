"""VeRA, by peft."""

from dataclasses import dataclass

from peftstudy import projections
from peftstudy.methods import Method, register


@register("vera")
@dataclass(frozen=True)
class VeRA(Method):
    """Train two scaling vectors around random low-rank matrices that all layers share (Kopiczko et al., 2024).

    rank: of the shared matrices; the paper takes 1,024 for RoBERTa-base and 256 for RoBERTa-large.
    """

    rank: int = 256
    targets: tuple[str, ...] = ("query", "value")

    citation = "kopiczko2024vera"
    trains = "scaling vectors of shared random matrices"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)

    def problem(self):
        if self.rank < 1:
            return f"rank {self.rank}: must be at least 1"
        return projections.problem(self.targets)

    def adapt(self, model, shape):
        import torch
        from peft import VeraConfig, get_peft_model

        # The library draws the shared matrices from a seed of its own; here they follow the run's.
        key, places = torch.initial_seed() % 2**31, projections.pattern(self.targets)
        get_peft_model(model, VeraConfig(r=self.rank, projection_prng_key=key, target_modules=places))
        return model  # whose layers hold what they share; the wrapper around it adds nothing

    def count(self, shape):
        return shape.layers * sum(self.rank + outputs for _, outputs in projections.sizes(shape, self.targets))
