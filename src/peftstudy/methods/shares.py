"""A share of the backbone's parameters, chosen one by one: at random, by size, by gradient."""

from abc import abstractmethod
from dataclasses import dataclass

from peftstudy.families import BOTH
from peftstudy.methods import REWRITES, WRITING, Method, register


@dataclass(frozen=True)
class Share(Method):
    """Train single parameters, wherever they are; the others stand still, and are not stored.

    share: of all parameters of the backbone, here as Sung et al. (2021) have it for gradients on GLUE.
    """

    share: float = 0.005

    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    turn = REWRITES
    not_for = dict.fromkeys(
        WRITING, "word embeddings and vocabulary are one tensor, of which no entry could be trained in both places"
    )
    alone = "it counts through the backbone's own tensors, which the other would change"
    is_chosen_later = False
    """Whether the choice needs training examples, and so is stored with the values."""

    def problem(self):
        return f"share {self.share}: want more than 0, at most 1" if not 0 < self.share <= 1 else None

    def adapt(self, model, shape):
        from peftstudy.changes.entries import train_entries

        return train_entries(model, shape, self.places(model, shape), stored=self.is_chosen_later)

    def skip(self, shape):
        return "several of its modules share one tensor of word embeddings" if shape.about.kind == BOTH else None

    @abstractmethod
    def places(self, model, shape):
        """Return the numbers of the entries (see changes.entries), ascending."""

    def count(self, shape):
        return max(1, round(self.share * shape.parameters))


@register("random-share")
@dataclass(frozen=True)
class RandomShare(Share):
    """Train parameters that are drawn at random over the whole backbone (Su et al., 2023)."""

    citation = "su2023arbitrary"
    trains = "a random share of the parameters"

    def places(self, model, shape):
        import numpy as np
        import torch

        rng = np.random.default_rng(torch.initial_seed())
        drawn = rng.choice(shape.parameters, self.count(shape), replace=False, shuffle=False)
        return torch.from_numpy(np.sort(drawn))


@register("magnitude-share")
@dataclass(frozen=True)
class MagnitudeShare(Share):
    """Train the parameters that are largest in size (as one of the masks of Bhardwaj et al., 2024)."""

    citation = "bhardwaj2024shira"
    trains = "the share of the largest parameters"

    def places(self, model, shape):
        from peftstudy.changes.entries import largest, tensors

        return largest([parameter.detach().abs() for _, _, parameter in tensors(model, shape)], self.count(shape))


@register("gradient-share")
@dataclass(frozen=True)
class GradientShare(RandomShare):
    """Train the parameters that matter most by the Fisher information of some training examples (Sung et al., 2021).

    share: of all parameters of the backbone; the paper has 0.5 % on GLUE.
    examples: how many; the mean of their squared gradients, each by its own label, is the information. The paper has
    1,024 on GLUE.
    """

    examples: int = 256

    citation = "sung2021fish"
    trains = "the share of the parameters that matter most"
    is_chosen_later = True

    def problem(self):
        return f"examples {self.examples}: must be at least 1" if self.examples < 1 else super().problem()

    def prepare(self, model, steps, losses):
        import torch

        from peftstudy.changes.entries import largest, of, originals

        frozen = originals(model)
        information = [torch.zeros_like(parameter) for parameter in frozen]
        trained = [parameter.requires_grad for parameter in frozen]  # by another part of a combination
        for parameter in frozen:
            parameter.requires_grad_(True)
        for loss in losses(self.examples, 1):
            for total, gradient in zip(information, torch.autograd.grad(loss, frozen, allow_unused=True), strict=True):
                if gradient is not None:
                    total += gradient**2
        for parameter, is_trained in zip(frozen, trained, strict=True):
            parameter.requires_grad_(is_trained)
        entries = of(model)
        entries.chosen.copy_(largest(information, len(entries.values)))
