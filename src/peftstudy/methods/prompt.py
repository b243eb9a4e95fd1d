"""Prompt tuning for encoders."""

from dataclasses import dataclass

from peftstudy.methods import Method, register


@register("prompt")
@dataclass(frozen=True)
class Prompt(Method):
    """Train vectors that are read as further words of every text (Lester et al., 2021).

    tokens: how many. They start as the embeddings of words drawn from the whole vocabulary.
    They stand behind the first token ([CLS], <s>), which stays first, where the head looks for it.
    Positions: the prompt has the last of the backbone's, and the text keeps those it has without a
    prompt, which the frozen backbone was pre-trained on. Token type: that of the first text.
    """

    tokens: int = 20

    citation = "lester2021prompt"
    trains = "vectors read as words of every text"
    learning_rates = (1e-3, 3e-3, 1e-2, 3e-2)
    start = "the prompt's words are read from the start"

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
        from peftstudy.prompting import Prompted

        return Prompted(model, self.tokens, shape)

    def count(self, shape):
        return self.tokens * shape.hidden
