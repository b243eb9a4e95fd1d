"""How a budget becomes steps, and a step its learning rate."""

import math
from dataclasses import dataclass

from peftstudy.specs import Training


@dataclass(frozen=True)
class Plan:
    """How many steps and epochs a budget comes to for so many training examples."""

    steps_an_epoch: int
    steps: int
    epochs: int

    @classmethod
    def of(cls, settings: Training, examples: int) -> "Plan":
        """Epochs, or steps when the budget names them, or epochs until there are minimum_steps.

        >>> Plan.of(Training(epochs=3, batch_size=32, minimum_steps=20), 100)
        Plan(steps_an_epoch=4, steps=20, epochs=5)
        """
        an_epoch = math.ceil(examples / settings.batch_size)
        steps = settings.steps or max(settings.epochs * an_epoch, settings.minimum_steps)
        return cls(an_epoch, steps, math.ceil(steps / an_epoch))


def schedule(step: int, steps: int, warmup: float) -> float:
    """Return the factor on the learning rate at `step` (from 0): up linearly, then down to 0.

    >>> [round(schedule(step, 10, 0.2), 2) for step in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.12]
    """
    rising = max(1, round(steps * warmup)) if warmup else 0
    if step < rising:
        return (step + 1) / rising
    return (steps - step) / max(1, steps - rising)
