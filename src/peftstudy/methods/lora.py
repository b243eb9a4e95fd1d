"""LoRA and what differs from it in its start or its form, by peft."""

from dataclasses import dataclass

from peftstudy.changes.injection import Injected, Ranked
from peftstudy.methods import register


@register("lora")
@dataclass(frozen=True)
class LoRA(Injected):
    """Add a trained product of two low-rank matrices to chosen weight matrices (Hu et al., 2022).

    rank: of the product; the paper has 8 on GLUE and 4 on E2E, and tries 1 to 64.
    alpha: the product is scaled by alpha over the rank; the authors' code has 16 for RoBERTa-base on GLUE.
    dropout: of what the product reads, here none; the code of LoRA's authors has 0.1 on E2E.
    rank_stabilised: the product is scaled by alpha over the root of the rank, as in the paper of Kalajdzievski (2023).
    """

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    rank_stabilised: bool = False

    citation = "hu2022lora"
    trains = "low-rank updates of weight matrices"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    configuration = "LoraConfig"
    weight_decomposed = False
    first_factors = True
    """What peft calls init_lora_weights; true: one factor at random, the other zero."""

    def unfit(self):
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            return f"rank {self.rank}, alpha {self.alpha}, dropout {self.dropout}: want 1 or more, above 0, in [0, 1)"

    def settings(self):
        return {
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "use_rslora": self.rank_stabilised,
            "use_dora": self.weight_decomposed,
            "init_lora_weights": self.first_factors,
        }

    def update(self, inputs, outputs):
        return self.rank * (inputs + outputs)


@register("dora")
@dataclass(frozen=True)
class DoRA(LoRA):
    """LoRA on the direction of each weight matrix, and a trained length for each of its outputs (Liu et al., 2024).

    rank: of the product; the paper has 16 and 32 for Llama, and tries 4 to 64.
    alpha: the product is scaled by alpha over the rank; the paper has twice the rank.
    """

    citation = "liu2024dora"
    trains = "low-rank updates of directions, and lengths"
    weight_decomposed = True

    def update(self, inputs, outputs):
        return super().update(inputs, outputs) + outputs


@register("pissa")
@dataclass(frozen=True)
class PiSSA(LoRA):
    """LoRA whose product starts as the principal part of the weight matrix (Meng et al., 2024).

    The frozen matrix is what remains of it, so it differs from the backbone's; the sum does not.
    rank: of the product; the paper has 128 for models that write, and tries 1 to 128.
    alpha: the product is scaled by alpha over the rank, here as for `lora`; the paper has the rank itself.
    """

    citation = "meng2024pissa"
    trains = "the principal part of weight matrices"
    sole = "it takes a part out of the matrix, from which others may compute"
    first_factors = "pissa"

    def misfit(self, inputs, outputs):
        if self.rank > min(inputs, outputs):
            return f"rank {self.rank}, and a matrix has {min(inputs, outputs)} singular values"


@register("olora")
@dataclass(frozen=True)
class OLoRA(PiSSA):
    """LoRA whose factors start orthonormal, from a QR decomposition of the weight matrix (Büyükakyüz, 2024).

    The frozen matrix is what remains of it, as in pissa.
    rank: of the product; the paper has 32 and 64.
    alpha: the product is scaled by alpha over the rank, here as for `lora`.
    """

    citation = "buyukakyuz2024olora"
    trains = "low-rank updates from orthonormal factors"
    first_factors = "olora"


@register("hira")
@dataclass(frozen=True)
class HiRA(Ranked):
    """Multiply weight matrices, entry by entry, by one plus a trained low-rank product (Huang et al., 2025).

    rank: of the product; peft has 32.
    """

    citation = "huang2025hira"
    trains = "low-rank factors of weight matrices"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    configuration = "HiraConfig"


@register("delora")
@dataclass(frozen=True)
class DeLoRA(Ranked):
    """A low-rank update of unit components whose common strength is trained apart (Bini et al., 2025).

    rank: how many components; peft has 8.
    strength: what it starts with, relative to the weight matrix; peft has 15.
    """

    strength: int = 15

    citation = "bini2025delora"
    trains = "directions of low-rank updates, and a strength"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    configuration = "DeloraConfig"

    def unfit(self):
        return f"strength {self.strength}: must be at least 1" if self.strength < 1 else super().unfit()

    def settings(self):
        return {"r": self.rank, "delora_lambda": self.strength}

    def update(self, inputs, outputs):
        return super().update(inputs, outputs) + 1


@register("gralora")
@dataclass(frozen=True)
class GraLoRA(Ranked):
    """Low-rank updates of the blocks of weight matrices, each with factors of its own (Jung et al., 2025).

    rank: of all updates of a row of blocks together; peft has 32.
    alpha: they are scaled by alpha over the rank; peft has 64.
    blocks: how many on a side, which divide the rank and the sides; peft has 2.
    """

    alpha: int = 16
    blocks: int = 2

    citation = "jung2025gralora"
    trains = "low-rank updates of blocks"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    configuration = "GraloraConfig"

    def unfit(self):
        if self.rank < 1 or self.alpha < 1 or self.blocks < 1 or self.rank % self.blocks:
            return f"rank {self.rank}, alpha {self.alpha}, blocks {self.blocks}: want 1 or more, and blocks that divide"

    def misfit(self, inputs, outputs):
        if inputs % self.blocks or outputs % self.blocks:
            return f"{self.blocks} blocks do not divide a matrix of {inputs} inputs and {outputs} outputs"

    def settings(self):
        return {"r": self.rank, "alpha": self.alpha, "gralora_k": self.blocks}
