"""Fine-tuning of the embedding layers alone."""

from peftstudy.methods import Method, register


@register("embeddings")
class Embeddings(Method):
    """Train the word, position and token-type embeddings and their layer norm (parts, as Lee et al., 2019)."""

    citation = "lee2019elsa"
    trains = "the embedding layers"
    learning_rates = (1e-4, 3e-4, 1e-3, 3e-3)
    marks = frozenset({"embeddings"})

    def adapt(self, model, shape):
        for path in shape.about.embeddings:
            model.base_model.get_submodule(path).requires_grad_(True)
        return model

    def count(self, shape):
        return shape.embedding_parameters
