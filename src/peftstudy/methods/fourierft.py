"""FourierFT, by peft."""

from dataclasses import dataclass

from peftstudy import projections
from peftstudy.methods import Method, register


@register("fourierft")
@dataclass(frozen=True)
class FourierFT(Method):
    """Train some coefficients of the discrete Fourier transform of each weight update (Gao et al., 2024).

    frequencies: how many for each matrix, at places that are the same for all.
    """

    frequencies: int = 1000
    scaling: float = 150.0
    targets: tuple[str, ...] = ("query", "value")

    citation = "gao2024fourierft"
    trains = "Fourier coefficients of updates"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    start = "the coefficients are drawn from a normal distribution, as published"

    def problem(self):
        if self.frequencies < 1 or self.scaling <= 0:
            return f"frequencies {self.frequencies}, scaling {self.scaling}: want 1 or more, and above 0"
        return projections.problem(self.targets)

    def skip(self, shape):
        room = min(inputs * outputs for inputs, outputs in projections.sizes(shape, self.targets))
        return f"{self.frequencies} frequencies, and room for {room}" if self.frequencies > room else None

    def adapt(self, model, shape):
        import torch
        from peft import FourierFTConfig, inject_adapter_in_model

        config = FourierFTConfig(
            n_frequency=self.frequencies,
            scaling=self.scaling,
            random_loc_seed=torch.initial_seed() % 2**31,
            target_modules=projections.pattern(self.targets),
        )
        return inject_adapter_in_model(config, model)

    def count(self, shape):
        return shape.layers * self.frequencies * len(projections.sizes(shape, self.targets))
