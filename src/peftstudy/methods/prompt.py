"""Prompt tuning and P-tuning."""

from abc import abstractmethod
from dataclasses import dataclass

from peftstudy import tasks
from peftstudy.methods import WRAPS, Method, register

INITIAL = ("labels", "random", "words")
NETWORKS = ("lstm", "mlp")


@dataclass(frozen=True)
class Words(Method):
    """Further words of every text, as vectors.

    Token type: that of the first text.
    tokens: how many; the paper of Lester et al. (2021) has 100, and tries 1 to 150. In an encoder they stand behind
    the first token ([CLS], <s>), which stays first, where the head looks for it; they have the last of the backbone's
    positions, and the text keeps those it has without a prompt, which the frozen backbone was pre-trained on. Encoders
    that number places by themselves read them behind the text. In families that write they stand before the text, and
    take the first positions.
    """

    tokens: int = 20

    start = "the prompt's words are read from the start"
    turn = WRAPS

    @property
    def extra_tokens(self):
        return self.tokens

    def problem(self):
        return f"tokens {self.tokens}: must be at least 1" if self.tokens < 1 else None

    def skip(self, shape):
        # The text's first token, one word and the end marker.
        room = min(shape.positions - 3, shape.vocabulary)
        return f"{self.tokens} prompt tokens, and room for {room}" if self.tokens > room else None

    def adapt(self, model, shape):
        from peftstudy.changes import prompting

        if shape.about.writes:
            return prompting.Preceded(model, self.vectors(model, shape), self.tokens)
        if shape.about.counts_itself:
            return prompting.Followed(model, self.vectors(model, shape), self.tokens)
        return prompting.Prompted(model, self.vectors(model, shape), self.tokens, shape)

    @abstractmethod
    def vectors(self, model, shape):
        """Return the trained vectors, shape (tokens, width), or a module that makes them."""

    def count(self, shape):
        return self.tokens * shape.embedding


@register("prompt")
@dataclass(frozen=True)
class Prompt(Words):
    """Train vectors that are read as further words of every text (Lester et al., 2021).

    Of families that write, what Li and Liang (2021, section 7.2) call embedding-only.
    initial: what they start as: `words`, the embeddings of words drawn from the whole vocabulary, marks such as [PAD]
    and words that hardly occur among them, where the paper draws from the 5,000 most frequent; `labels`, those of the
    classes' names, and words for the rest; `random`, as embeddings start. The paper tries all three.
    """

    initial: str = "words"

    citation = "lester2021prompt"
    trains = "vectors read as words of every text"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)

    def problem(self):
        if self.initial not in INITIAL:
            return f"initial {self.initial!r}: want one of {', '.join(INITIAL)}"
        return super().problem()

    def cannot(self, task):
        if self.initial == "labels" and not tasks.create(task).classes:
            return "it has no classes, whose names the prompt could start as (initial: labels)"
        return super().cannot(task)

    def vectors(self, model, shape):
        from peftstudy.changes import prompting

        if self.initial == "random":
            return prompting.random_vectors(model, self.tokens)
        return getattr(prompting, self.initial)(model, self.tokens, shape.vocabulary)


@register("p-tuning")
@dataclass(frozen=True)
class PTuning(Words):
    """Prompt tuning with vectors that a small network makes from trained ones (Liu et al., 2021).

    P-tuning v2 is another method, of prompts in every layer: `prefix`.
    network: `mlp`, three layers, or `lstm`, two bidirectional ones with two plain ones behind them; the paper has an
    LSTM, peft has both.
    inner: its width, here 64.
    """

    network: str = "mlp"
    inner: int = 64

    citation = "liu2021gpt"
    trains = "a network that makes vectors read as words"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)

    def problem(self):
        if self.network not in NETWORKS or self.inner < 1:
            return f"network {self.network!r}, inner {self.inner}: want {' or '.join(NETWORKS)}, and 1 or more"
        return super().problem()

    def vectors(self, model, shape):
        from peftstudy.changes.prompting import Encoder

        return Encoder(self.tokens, shape.embedding, self.inner, self.network.upper())

    def count(self, shape):
        width, inner = shape.embedding, self.inner
        if self.network == "mlp":
            layers = (width + 1) * inner + (inner + 1) * inner + (inner + 1) * width
        else:
            lstm = 2 * 4 * inner * (width + inner + 2) + 2 * 4 * inner * (2 * inner + inner + 2)
            layers = lstm + (2 * inner + 1) * 2 * inner + (2 * inner + 1) * width
        return super().count(shape) + layers
