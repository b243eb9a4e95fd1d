"""Prefix tuning, by the adapters library."""

from dataclasses import dataclass

from peftstudy.methods import Method, register


@register("prefix")
@dataclass(frozen=True)
class Prefix(Method):
    """Train keys and values that stand before those of the text in every layer (Li and Liang, 2021).

    tokens: how many. inner: the width of the network that makes them from trained vectors, as in the
    paper; null trains them directly, as P-tuning v2 does (Liu et al., 2022). They take no positions.
    """

    tokens: int = 20
    inner: int | None = None

    citation = "li2021prefix"
    trains = "keys and values in every layer"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    start = "the prefix is attended to from the start"
    plain_attention = False

    def problem(self):
        if self.tokens < 1 or (self.inner is not None and self.inner < 1):
            return f"tokens {self.tokens}, inner {self.inner}: each must be at least 1"

    def adapt(self, model, shape):
        import adapters

        adapters.init(model)
        config = adapters.PrefixTuningConfig(
            flat=self.inner is None, prefix_length=self.tokens, bottleneck_size=self.inner or 1
        )
        model.add_adapter("prefix", config=config)
        with adapters.AdapterSetup("prefix"):
            model.train_adapter("prefix")
        return model

    def count(self, shape):
        if self.inner is None:
            return 2 * shape.layers * self.tokens * shape.hidden
        made = 2 * shape.layers * shape.hidden
        return self.tokens * shape.hidden + (shape.hidden + 1) * self.inner + (self.inner + 1) * made
