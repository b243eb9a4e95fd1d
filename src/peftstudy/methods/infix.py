"""Infix tuning: what is read between a text and what is written behind it."""

from dataclasses import dataclass

from peftstudy import tasks
from peftstudy.families import BOTH, DECODER
from peftstudy.methods import ADDS, Method, register
from peftstudy.methods.prefix import COUNTED, InEachLayer


@register("infix")
@dataclass(frozen=True)
class Infix(InEachLayer, Method):
    """Train keys and values that stand between source and target, in every layer (Li and Liang, 2021, section 7.3).

    The source does not see them, what is written does, from the source's end mark on, which the first token written
    follows from. Like a prefix's, they take no positions. The paper's "embedding-only" is the method `prompt`.
    tokens: how many; the paper tries 1, 10 and 20.
    """

    citation = "li2021prefix"
    trains = "keys and values between source and target"
    start = "the infix is attended to from the start"
    not_for = dict.fromkeys(
        (name for name, task in tasks.registered().items() if not task.writes),
        "it stands between a text and what is written behind it, and nothing is written",
    )
    turn = ADDS

    def cannot_join(self, other):
        return COUNTED if other.extra_tokens or isinstance(other, InEachLayer) else None

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
