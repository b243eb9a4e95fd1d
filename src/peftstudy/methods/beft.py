"""BEFT, by peft."""

import warnings
from dataclasses import dataclass

from peftstudy.changes.injection import FUSED, Injected
from peftstudy.methods import register


@register("beft")
@dataclass(frozen=True)
class BEFT(Injected):
    """Train a bias that is added to the values of attention, where `bitfit` trains all biases (Huang et al., 2026).

    Families without biases have this one.
    targets: the matrices whose outputs it is added to; the paper finds those of the values best of the three.
    """

    targets: tuple[str, ...] = ("value",)

    citation = "huang2026beft"
    trains = "a bias added to values"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    configuration = "BeftConfig"

    def skip(self, shape):
        return FUSED if shape.about.fused else super().skip(shape)

    def adapt(self, model, shape):
        with warnings.catch_warnings():  # of what cannot be merged where there are no biases
            warnings.filterwarnings("ignore", "Detected that the base layer has no bias")
            return super().adapt(model, shape)

    def no_decay(self, name):
        return "beft_bias" in name or super().no_decay(name)  # which has two dimensions, as no other bias

    def update(self, inputs, outputs):
        return outputs
