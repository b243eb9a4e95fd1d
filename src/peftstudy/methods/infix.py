"""Infix tuning: what is read between a text and what is written behind it."""

from dataclasses import dataclass

from peftstudy import tasks
from peftstudy.families import BOTH, DECODER
from peftstudy.methods import ADDS, Method, register


@register("infix")
@dataclass(frozen=True)
class Infix(Method):
    """Train keys and values that stand between source and target, in every layer (Li and Liang, 2021, section 7.3).

    tokens: how many. inner: the width of the network that makes them from trained vectors; null trains them directly.
    The source does not see them, what is written does, from the source's end mark on, which the first token written
    follows from. Like a prefix's, they take no positions. The paper's "embedding-only" is the method `prompt`.
    """

    tokens: int = 20
    inner: int | None = None

    citation = "li2021prefix"
    trains = "keys and values between source and target"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    start = "the infix is attended to from the start"
    plain_attention = False
    not_for = dict.fromkeys(
        (name for name, task in tasks.registered().items() if not task.writes),
        "it stands between a text and what is written behind it, and nothing is written",
    )
    turn = ADDS

    def problem(self):
        if self.tokens < 1 or (self.inner is not None and self.inner < 1):
            return f"tokens {self.tokens}, inner {self.inner}: each must be at least 1"

    def skip(self, shape):
        if shape.about.kind == BOTH:
            return "its source and its target stand in two stacks, and what is between them is a prefix of the second"
        return None if shape.about.kind == DECODER else "an encoder writes nothing behind a text"

    def adapt(self, model, shape):
        from peftstudy.changes.infixes import put_between

        return put_between(model, shape, self.tokens, self.inner)

    def count(self, shape):
        made = 2 * shape.layers * shape.key_width
        if self.inner is None:
            return self.tokens * made
        return self.tokens * shape.hidden + (shape.hidden + 1) * self.inner + (self.inner + 1) * made
