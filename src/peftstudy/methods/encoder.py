"""Fine-tuning of the encoder layers alone."""

from peftstudy.changes.projections import TARGETS
from peftstudy.methods import Method, register


@register("encoder")
class Encoder(Method):
    """Train the encoder layers, with embeddings and pooler frozen (parts, as Lee et al., 2019)."""

    citation = "lee2019elsa"
    trains = "the encoder layers"
    learning_rates = (3e-5, 1e-4, 3e-4, 1e-3)
    matrices = TARGETS
    marks = frozenset({"layers"})

    def adapt(self, model, shape):
        for layer in shape.about.list_of_layers(model.base_model):
            layer.requires_grad_(True)
        return model

    def count(self, shape):
        return shape.parameters_of(range(shape.all_layers))
