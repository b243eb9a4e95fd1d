"""FourierFT and WaveFT, by peft: updates of weight matrices that are sparse in another basis."""

from dataclasses import dataclass

from peftstudy.changes.injection import Injected, seed
from peftstudy.methods import register


@register("fourierft")
@dataclass(frozen=True)
class FourierFT(Injected):
    """Train some coefficients of the discrete Fourier transform of each weight update (Gao et al., 2024).

    frequencies: how many for each matrix, at places that are the same for all; the paper has 1,000 on GLUE.
    scaling: of the update; peft has 150.
    """

    frequencies: int = 1000
    scaling: float = 150.0

    citation = "gao2024fourierft"
    trains = "Fourier coefficients of updates"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    start = "the coefficients are drawn from a normal distribution, as published"
    configuration = "FourierFTConfig"

    def unfit(self):
        if self.frequencies < 1 or self.scaling <= 0:
            return f"frequencies {self.frequencies}, scaling {self.scaling}: want 1 or more, and above 0"

    def misfit(self, inputs, outputs):
        if self.frequencies > inputs * outputs:
            return f"{self.frequencies} frequencies, and room for {inputs * outputs}"

    def settings(self):
        return {"n_frequency": self.frequencies, "scaling": self.scaling, "random_loc_seed": seed()}

    def update(self, inputs, outputs):
        return self.frequencies


@register("waveft")
@dataclass(frozen=True)
class WaveFT(FourierFT):
    """Train some wavelet coefficients of each weight update (Bilican et al., 2025).

    frequencies: how many for each matrix; peft has 2,592.
    scaling: of the update; peft has 25, its value for models of images.
    """

    scaling: float = 25.0

    citation = "bilican2025waveft"
    trains = "wavelet coefficients of updates"
    start = ""
    configuration = "WaveFTConfig"
