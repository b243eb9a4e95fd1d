"""Full fine-tuning."""

from peftstudy.changes.projections import TARGETS
from peftstudy.methods import Method, register


@register("full")
class Full(Method):
    """Train every parameter of the backbone (Devlin et al., 2019)."""

    citation = "devlin2019bert"
    trains = "the whole backbone"
    learning_rates = (3e-5, 1e-4, 3e-4, 1e-3)
    matrices = TARGETS
    marks = frozenset({"embeddings", "layers"})

    def adapt(self, model, shape):
        return model.requires_grad_(True)

    def count(self, shape):
        return shape.parameters
