"""A method in a file of your own, as a user would write it."""

TEXT = """
from peftstudy.methods import Method, register

@register("own")
class Own(Method):
    trains = "the layer norms' biases"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)

    def adapt(self, model, shape):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith("LayerNorm.bias") and not name.startswith("cls"))
        return model

    def count(self, shape):
        return (2 * shape.layers + 1) * shape.hidden
"""


def text(name: str, more: str = "") -> str:
    """Return the file of a method of that name; more: a line of its class."""
    return TEXT.replace('"own"', f'"{name}"').replace("    trains =", f"    {more}\n    trains =")
