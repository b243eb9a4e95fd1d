"""BitFit."""

from peftstudy.methods import Method, register


@register("bitfit")
class BitFit(Method):
    """Train the bias terms alone, those of the layer norms included (Ben Zaken et al., 2022)."""

    citation = "benzaken2022bitfit"
    trains = "the bias terms"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)

    def adapt(self, model, shape):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith(".bias"))
        return model

    def count(self, shape):
        # A layer: query, key, value, attention output, feed-forward output and two layer norms; the
        # feed-forward's inner bias. Then the embeddings' layer norm, and the pooler.
        layer = 7 * shape.hidden + shape.intermediate
        return shape.layers * layer + shape.hidden * (1 + shape.pooler)
