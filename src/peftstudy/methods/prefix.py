"""Prefix tuning and LoReFT, by the adapters library: what is read, and what is edited, in every layer."""

from dataclasses import dataclass

from peftstudy.changes.additions import Added
from peftstudy.methods import register

COUNTED = "its place is counted in tokens of the text"
"""Why a method cannot be combined with one that puts something before them."""


@dataclass(frozen=True)
class InEachLayer:
    """What keys and values that are trained for every layer have in common.

    tokens: how many.
    inner: the width of the network that makes them from trained vectors; null, as here, trains them directly. The paper
    has 512 for tables and 800 for summaries.
    """

    tokens: int = 20
    inner: int | None = None

    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    plain_attention = False

    def problem(self):
        if self.tokens < 1 or (self.inner is not None and self.inner < 1):
            return f"tokens {self.tokens}, inner {self.inner}: each must be at least 1"


@register("prefix")
@dataclass(frozen=True)
class Prefix(InEachLayer, Added):
    """Train keys and values that stand before those of the text in every layer (Li and Liang, 2021).

    They take no positions. Without the network that makes them it is P-tuning v2 (Liu et al., 2022).
    tokens: how many; the paper has 10 for tables and 200 for summaries, P-tuning v2 up to 100.
    """

    citation = "li2021prefix"
    trains = "keys and values in every layer"
    start = "the prefix is attended to from the start"

    def skip(self, shape):
        return "the adapters library has no prefix for it" if shape.family == "modernbert" else None

    def config(self, shape):
        from adapters import PrefixTuningConfig

        return PrefixTuningConfig(flat=self.inner is None, prefix_length=self.tokens, bottleneck_size=self.inner or 1)

    def count(self, shape):
        made = [2 * layers * shape.key_width for layers in shape.attentions]
        if self.inner is None:
            return self.tokens * sum(made)
        read = self.tokens * shape.hidden + (shape.hidden + 1) * self.inner  # a network for each kind of attention
        return len(made) * read + (self.inner + 1) * sum(made)


@register("loreft")
@dataclass(frozen=True)
class LoReFT(Added):
    """Edit the first hidden states of each text, in every layer, within a trained subspace (Wu et al., 2024).

    Last states, which the paper edits as well, stay as they are here. In training the edited states go through the
    adapters library's dropout of 0.05.
    rank: the dimensions of the subspace; the paper has 1 on GLUE, and 4 or 8 for Llama.
    tokens: how many states from the first on; the adapters library has 3, the paper up to 7 first and 7 last ones for
    Llama.
    """

    rank: int = 1
    tokens: int = 3

    citation = "wu2024reft"
    configuration = "LoReftConfig"
    """The name of its configuration class in adapters."""
    trains = "edits of hidden states in a subspace"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    start = "the edits are drawn at random, as published"
    plain_attention = False  # nothing of attention changes, but which states are edited depends on whose they are

    def problem(self):
        if self.rank < 1 or self.tokens < 1:
            return f"rank {self.rank}, tokens {self.tokens}: each must be at least 1"

    def cannot_join(self, other):
        return COUNTED if other.extra_tokens else None

    def skip(self, shape):
        return f"rank {self.rank}, and {shape.hidden} dimensions" if self.rank > shape.hidden else None

    def config(self, shape):
        import adapters

        # Tied, for with first states alone a second set of weights for last states would stand idle.
        kind = getattr(adapters, self.configuration)
        return kind(r=self.rank, prefix_positions=self.tokens, tied_weights=True)

    def no_decay(self, name):
        # The rotation is kept as signs that decay would pull towards 0 and a cast to int then makes 0: the
        # method would do nothing after one step.
        return ("reft" in name and "parametrizations" in name) or super().no_decay(name)

    def count(self, shape):
        return shape.all_layers * (2 * self.rank * shape.hidden + self.rank)


@register("noreft")
@dataclass(frozen=True)
class NoReFT(LoReFT):
    """LoReFT whose subspace is spanned by any directions, not by orthogonal ones (after Wu et al., 2024).

    As there, last states stay as they are, and edited states go through a dropout of 0.05 in training.
    """

    configuration = "NoReftConfig"
    trains = "edits of hidden states, not orthogonal"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)


@register("direft")
@dataclass(frozen=True)
class DiReFT(NoReFT):
    """LoReFT without orthogonal directions that adds to the states, whatever they are there (Wu et al., 2024).

    As there, last states stay as they are, and edited states go through a dropout of 0.05 in training.
    """

    configuration = "DiReftConfig"
    trains = "what is added to hidden states in a subspace"
    library = ""  # which does not store that nothing is subtracted, and so would read another method
