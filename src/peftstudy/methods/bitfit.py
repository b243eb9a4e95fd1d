"""BitFit."""

from peftstudy.methods import Method, register


@register("bitfit")
class BitFit(Method):
    """Train the bias terms alone, those of the layer norms included (Ben Zaken et al., 2022)."""

    citation = "benzaken2022bitfit"
    trains = "the bias terms"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    marks = frozenset({"embeddings", "layers"})

    def adapt(self, model, shape):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith(".bias"))
        return model

    def skip(self, shape):
        return None if shape.biased else "it has no biases"

    def count(self, shape):
        return shape.biases + shape.pooler * shape.hidden
