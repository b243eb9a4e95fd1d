"""Fine-tuning of some encoder layers."""

from dataclasses import dataclass

from peftstudy.changes.projections import TARGETS
from peftstudy.families import BOTH
from peftstudy.methods import Method, register


@register("layers")
@dataclass(frozen=True)
class Layers(Method):
    """Train the first and the last encoder layers, as many as the options say (Lee et al., 2019).

    first: how many, counted from the embeddings' side, here none; the paper trains last ones.
    last: how many, counted from the head's side, here one; the paper varies it.
    """

    first: int = 0
    last: int = 1

    citation = "lee2019elsa"
    trains = "some encoder layers"
    learning_rates = (3e-5, 1e-4, 3e-4, 1e-3)
    matrices = TARGETS
    marks = frozenset({"layers"})

    def problem(self):
        if self.first < 0 or self.last < 0 or self.first + self.last < 1:
            return f"first {self.first}, last {self.last}: want none below 0, and at least one layer"

    def skip(self, shape):
        if shape.about.kind == BOTH:
            return "an encoder-decoder has two first layers, and two last ones"
        if self.first + self.last > shape.layers:
            return f"{self.first} first and {self.last} last layers, and there are {shape.layers}"

    def adapt(self, model, shape):
        layers = shape.about.list_of_layers(model.base_model)
        for number in self.numbers(shape):
            layers[number].requires_grad_(True)
        return model

    def numbers(self, shape):
        """Return the trained layers by number, from 0."""
        return [*range(self.first), *range(shape.layers - self.last, shape.layers)]

    def count(self, shape):
        return shape.parameters_of(self.numbers(shape))
