"""Tuning of layer normalisation."""

from peftstudy.methods import Method, register


@register("layernorm")
class LayerNorm(Method):
    """Train gains and biases of the layer normalisations alone (Qi et al., 2022)."""

    citation = "qi2022layernorm"
    trains = "the layer normalisations"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)

    def adapt(self, model, shape):
        for name, parameter in model.base_model.named_parameters():
            parameter.requires_grad_("LayerNorm" in name)
        return model

    def count(self, shape):
        # Two in each layer and that of the embeddings, a gain and a bias each.
        return (2 * shape.layers + 1) * 2 * shape.hidden
