"""Tuning of layer normalisation."""

from peftstudy.methods import Method, register


@register("layernorm")
class LayerNorm(Method):
    """Train gains and biases of the layer normalisations alone (Qi et al., 2022)."""

    citation = "qi2022layernorm"
    trains = "the layer normalisations"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    marks = frozenset({"embeddings", "layers"})

    def adapt(self, model, shape):
        for module in model.base_model.modules():
            if type(module).__name__.endswith(("LayerNorm", "RMSNorm")):  # T5's and Llama's are classes of their own
                module.requires_grad_(True)
        return model

    def count(self, shape):
        return shape.norm_parameters
