"""VeRA, RandLoRA and VB-LoRA, by peft: updates of weight matrices from what all layers share."""

from dataclasses import dataclass

from peftstudy.changes.injection import Injected, Ranked, forget, seed
from peftstudy.methods import SHARES, register


@dataclass(frozen=True)
class Shared(Injected):
    """An update whose layers hold references to one set of tensors."""

    turn = SHARES  # before other methods of peft: it looks for plain matrices

    def adapt(self, model, shape):
        import peft

        forget(model)
        peft.get_peft_model(model, self.config(model, shape))
        return model  # whose layers hold what they share; the wrapper around it adds nothing


@register("vera")
@dataclass(frozen=True)
class VeRA(Shared, Ranked):
    """Train two scaling vectors around random low-rank matrices that all layers share (Kopiczko et al., 2024).

    rank: of the shared matrices; the paper takes 1,024 for RoBERTa-base and 256 for RoBERTa-large.
    """

    rank: int = 256

    citation = "kopiczko2024vera"
    trains = "scaling vectors of shared random matrices"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    configuration = "VeraConfig"

    def settings(self):
        return {"r": self.rank, "projection_prng_key": seed()}

    def update(self, inputs, outputs):
        return self.rank + outputs


@register("randlora")
@dataclass(frozen=True)
class RandLoRA(Shared, Ranked):
    """Train the weights of random low-rank matrices that add up to an update of full rank (Albert et al., 2025).

    rank: of each; there are as many as make the sum's rank full. Peft has 32.
    """

    rank: int = 32

    citation = "albert2025randlora"
    trains = "weights of shared random matrices"
    learning_rates = (1e-4, 3e-4, 1e-3, 3e-3)
    configuration = "RandLoraConfig"

    def settings(self):
        return {"r": self.rank, "projection_prng_key": seed(), "randlora_alpha": 20 * self.rank}

    def update(self, inputs, outputs):
        small, _ = sorted((inputs, outputs))
        return -(-small // self.rank) * (self.rank + small)


@register("vblora")
@dataclass(frozen=True)
class VBLoRA(Shared):
    """Compose the factors of low-rank updates of vectors from a bank that all layers share (Li et al., 2024).

    rank: of the updates; the paper has 4 on GLUE.
    vectors: how many the bank holds; the paper has 90 on GLUE.
    length: of a vector, which divides all inputs and outputs; the paper has 256 on GLUE.
    chosen: how many are mixed for each piece; the paper has 2 on GLUE.
    """

    rank: int = 4
    vectors: int = 90
    length: int = 16
    chosen: int = 2

    citation = "li2024vblora"
    trains = "a bank of vectors and the choices from it"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    start = "the bank and the choices from it are drawn at random, as published"
    configuration = "VBLoRAConfig"

    def unfit(self):
        if min(self.rank, self.vectors, self.length) < 1 or not 1 <= self.chosen <= self.vectors:
            return (
                f"rank {self.rank}, vectors {self.vectors}, length {self.length}, chosen {self.chosen}: "
                "each must be at least 1, and no more chosen than there are"
            )

    def misfit(self, inputs, outputs):
        if inputs % self.length or outputs % self.length:
            return f"vectors of {self.length} do not divide a matrix of {inputs} inputs and {outputs} outputs"

    def settings(self):
        return {
            "r": self.rank, "num_vectors": self.vectors, "vector_length": self.length, "topk": self.chosen,
        }  # fmt: skip

    def update(self, inputs, outputs):
        return self.rank * (inputs + outputs) // self.length * self.vectors

    def count(self, shape):
        return self.vectors * self.length + super().count(shape)
