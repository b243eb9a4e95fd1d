"""Houlsby adapters, by the adapters library."""

from dataclasses import dataclass

from peftstudy.methods import Method, register


@register("houlsby")
@dataclass(frozen=True)
class Houlsby(Method):
    """Train a bottleneck module after each attention and feed-forward block (Houlsby et al., 2019).

    size: the bottleneck's width; when it is null, the hidden width divided by `reduction`.
    Unlike in the paper, the backbone's layer norms stay frozen, as in the adapters library.
    """

    size: int | None = None
    reduction: int = 16

    citation = "houlsby2019adapter"
    trains = "two bottleneck modules a layer"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    start = "near the identity, as published: bottleneck weights are drawn with standard deviation 0.01"

    def problem(self):
        if self.reduction < 1 or (self.size is not None and self.size < 1):
            return f"size {self.size}, reduction {self.reduction}: each must be at least 1"

    def width(self, shape):
        return self.size or max(1, shape.hidden // self.reduction)

    def adapt(self, model, shape):
        import adapters

        adapters.init(model)
        # The library rounds hidden / factor down; the half keeps that on the width that is meant.
        factor = shape.hidden / (self.width(shape) + 0.5)
        config = adapters.DoubleSeqBnConfig(reduction_factor=factor, init_weights="houlsby")
        model.add_adapter("houlsby", config=config)
        # Activating resets first, and that warns unless an adapter is active already.
        with adapters.AdapterSetup("houlsby"):
            model.train_adapter("houlsby")
        return model

    def count(self, shape):
        return shape.layers * 2 * (2 * shape.hidden * self.width(shape) + self.width(shape) + shape.hidden)
