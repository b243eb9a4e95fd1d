"""LoHa and LoKr, by peft: updates of weight matrices as Hadamard and as Kronecker products."""

from dataclasses import dataclass

from peftstudy.changes.injection import Injected
from peftstudy.methods import register


@register("loha")
@dataclass(frozen=True)
class LoHa(Injected):
    """Add the elementwise product of two trained low-rank products to weight matrices (Hyeon-Woo et al., 2022).

    The paper has this form for models trained from scratch by many clients; adapting by it is peft's.
    rank: of each product; peft has 8.
    alpha: the update is scaled by alpha over the rank; peft has 8.
    """

    rank: int = 8
    alpha: float = 8

    citation = "hyeonwoo2022fedpara"
    trains = "elementwise products of low-rank updates"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    configuration = "LoHaConfig"

    def unfit(self):
        if self.rank < 1 or self.alpha <= 0:
            return f"rank {self.rank}, alpha {self.alpha}: want 1 or more, and above 0"

    def settings(self):
        return {"r": self.rank, "alpha": self.alpha}

    def update(self, inputs, outputs):
        return 2 * self.rank * (inputs + outputs)


@register("lokr")
@dataclass(frozen=True)
class LoKr(LoHa):
    """Add the Kronecker product of two trained matrices to weight matrices (Yeh et al., 2024).

    rank: of the larger one, which is whole where that is no more; peft has 8.
    """

    citation = "yeh2024lycoris"
    trains = "Kronecker products added to weight matrices"
    configuration = "LoKrConfig"

    def update(self, inputs, outputs):
        (small_in, large_in), (small_out, large_out) = _nearest_factors(inputs), _nearest_factors(outputs)
        whole = self.rank >= max(large_in, large_out) / 2
        large = large_in * large_out if whole else self.rank * (large_in + large_out)
        return small_in * small_out + large


def _nearest_factors(number):
    small = max(factor for factor in range(1, int(number**0.5) + 1) if number % factor == 0)
    return small, number // small
