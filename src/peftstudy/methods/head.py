"""The frozen backbone as a feature extractor."""

from peftstudy.methods import NO_HEAD, Method, register


@register("head")
class Head(Method):
    """Train the head alone, on the frozen backbone's features (Peters et al., 2019)."""

    citation = "peters2019tune"
    trains = "nothing but the head"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    not_for = NO_HEAD

    def adapt(self, model, shape):
        return model

    def count(self, shape):
        return 0
