"""What a model is asked in pre-training, by its family: hidden tokens, the next one, or a text with parts hidden."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from peftstudy import corruption
from peftstudy.corpora import SENTINELS
from peftstudy.engine import Engine
from peftstudy.errors import StudyError
from peftstudy.families import CAUSAL, FAMILIES, INFILLING, MASKED, SPANS
from peftstudy.scoring import autocast
from peftstudy.specs import Pretraining
from peftstudy.writing import padded

PART = 2048  # tokens to be predicted that go through the model together: their logits are the largest thing there is
LOGITS = {"cpu": 2**23, "cuda": 2**27}
"""How many logits of hidden tokens there are at a time, by device."""


class Objective(ABC):
    """A loss over blocks of text, of which the drawn part follows from a generator alone.

    share: of the tokens that are hidden, unless the settings say another.
    """

    share: ClassVar[float] = 0.0

    def __init__(self, engine: Engine, tokenizer: Any, settings: Pretraining) -> None:
        self.engine, self.tokenizer, self.settings = engine, tokenizer, settings
        self.share = self.share if settings.corrupted is None else settings.corrupted

    @abstractmethod
    def parts(self, ids: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor | float]]:
        """Yield, part by part, what a batch of blocks adds to the mean loss of a token, and what else is to be learned.

        ids: shape (blocks, length).
        """

    def add_gradients(self, ids: np.ndarray, rng: np.random.Generator) -> float:
        """Add the gradients of a batch of blocks; return its mean loss, in nats a token that is to be predicted."""
        total = 0.0
        for loss, further in self.parts(ids, rng):
            (loss + further).backward()
            total += float(loss.detach())
        return total

    @torch.no_grad()
    def loss(self, ids: np.ndarray, rng: np.random.Generator) -> float:
        """Return the mean loss of a batch of blocks, in nats a token that is to be predicted."""
        return sum(float(loss) for loss, _ in self.parts(ids, rng))


class Masked(Objective):
    """Predict hidden tokens (Devlin et al., 2019), and the words of a block by its first token (Ma et al., 2024).

    Vocabulary and last layer are computed where there is a loss alone: at the hidden tokens, and at the
    first token of each block where that has its words to predict.
    """

    share = 0.15

    def __init__(self, engine: Engine, tokenizer: Any, settings: Pretraining) -> None:
        super().__init__(engine, tokenizer, settings)
        self.special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad", "mask")}

    def parts(self, ids, rng):
        model, weight, device = self.engine.model, self.settings.bag_of_words, self.engine.device
        hidden, chosen = corruption.mask_tokens(ids, rng, self.special, model.config.vocab_size, self.share)
        read = chosen.copy()
        read[:, 0] = weight > 0
        with autocast(device, self.settings.precision):
            states = self.engine.states(hidden.astype(np.int64), read)
        # What the vocabulary is made from, part by part; the body gets the gradients of all parts together.
        leaf = states.detach().requires_grad_(states.requires_grad)
        size = max(1, LOGITS[device.type] // model.config.vocab_size)
        for start in range(0, len(leaf), size):
            part = slice(start, start + size)
            is_hidden, blocks = chosen[read][part], ids[np.nonzero(read)[0][part]]
            with autocast(device, self.settings.precision):
                logits = vocabulary_logits(model, leaf[part]).float()
            targets = torch.from_numpy(ids[read][part][is_hidden]).to(device, torch.long)
            bags = 0.0
            if weight:  # else all are hidden, and a choice among them would copy the logits twice
                of_hidden = torch.from_numpy(is_hidden).to(device)
                bags = bag_of_words_loss(logits[~of_hidden], blocks[~is_hidden], self.special.values())
                logits = logits[of_hidden]
            loss = F.cross_entropy(logits, targets, reduction="sum") / max(1, chosen.sum())
            yield loss, weight * bags / len(ids)
        if leaf.grad is not None:
            states.backward(leaf.grad)


class Written(Objective):
    """Predict the tokens of a text, each given those before it, and what an encoder reads where there is one."""

    @abstractmethod
    def asked(self, ids: np.ndarray, rng: np.random.Generator) -> tuple[Sequence[np.ndarray], np.ndarray]:
        """Return what is read of each block, and what is to be predicted of it, shape (blocks, targets)."""

    def parts(self, ids, rng):
        inputs, targets = self.asked(ids, rng)
        size = max(1, PART // targets.shape[1])
        for start in range(0, len(ids), size):
            rows = slice(start, start + size)
            wanted = torch.from_numpy(targets[rows].astype(np.int64)).to(self.engine.device)
            with autocast(self.engine.device, self.settings.precision):
                logits = self.logits(inputs[rows], wanted).float()
            yield F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum") / targets.size, 0.0

    def logits(self, inputs: Sequence[np.ndarray], wanted: Tensor) -> Tensor:
        """Return the logits at each token that is to be predicted, shape (blocks, targets, vocabulary)."""
        model, device = self.engine.model, self.engine.device
        read = {name: tensor.to(device) for name, tensor in padded(inputs, self.tokenizer.pad_token_id).items()}
        begin = wanted.new_full((len(wanted), 1), model.config.decoder_start_token_id)
        return model(**read, decoder_input_ids=torch.cat([begin, wanted[:, :-1]], dim=1)).logits


class Causal(Written):
    """Predict each token from those before it (Radford et al., 2019)."""

    def asked(self, ids, rng):
        return ids[:, :-1], ids[:, 1:]

    def logits(self, inputs, wanted):
        return self.engine.model(input_ids=torch.from_numpy(inputs.astype(np.int64)).to(wanted.device)).logits


class SpanCorruption(Written):
    """Write the spans that sentinels stand for in a text (Raffel et al., 2020)."""

    share = 0.15

    def __init__(self, engine: Engine, tokenizer: Any, settings: Pretraining) -> None:
        super().__init__(engine, tokenizer, settings)
        vocabulary = tokenizer.get_vocab()
        self.sentinels = [vocabulary[name] for name in SENTINELS if name in vocabulary]
        wanted = 1 + round(max(1, round(self.share * settings.block_length)) / settings.mean_span)
        if len(self.sentinels) < max(2, wanted):
            raise StudyError(
                f"pretrain: the tokenizer has {len(self.sentinels)} sentinels ({SENTINELS[0]}, …), and a block of "
                f"{settings.block_length} tokens wants {max(2, wanted)}; give another tokenizer or shorter blocks."
            )

    def asked(self, ids, rng):
        mean, end = self.settings.mean_span, [self.tokenizer.eos_token_id]
        pairs = [corruption.corrupt_spans(row, rng, self.sentinels, self.share, mean) for row in ids]
        return [np.append(left, end) for left, _ in pairs], np.array([np.append(spans, end) for _, spans in pairs])


class TextInfilling(Written):
    """Write a text whose spans are hidden, and whose sentences are in another order (Lewis et al., 2020)."""

    share = 0.3

    def __init__(self, engine: Engine, tokenizer: Any, settings: Pretraining) -> None:
        super().__init__(engine, tokenizer, settings)
        names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self.stops = np.array([name.endswith((".", tokenizer.sep_token)) for name in names])

    def asked(self, ids, rng):
        return [self._hidden(row, rng) for row in ids], ids

    def _hidden(self, row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        inner = row[1:-1]
        if self.settings.permute_sentences:
            inner = corruption.permute_sentences(inner, rng, self.stops)
        found = corruption.infill(inner, rng, self.tokenizer.mask_token_id, self.share, self.settings.mean_span)
        return np.concatenate([row[:1], found, row[-1:]])


_KINDS: dict[str, type[Objective]] = {
    MASKED: Masked,
    CAUSAL: Causal,
    SPANS: SpanCorruption,
    INFILLING: TextInfilling,
}


def create(engine: Engine, tokenizer: Any, settings: Pretraining) -> Objective:
    """Return the objective of the settings' family."""
    return _KINDS[FAMILIES[settings.family].objective](engine, tokenizer, settings)


def bag_of_words_loss(logits: Tensor, ids: np.ndarray, special: Iterable[int]) -> Tensor:
    """Return the sum over blocks of the loss of naming a block's distinct tokens, in any order, in nats a token.

    logits: one row a block, shape (blocks, vocabulary). ids: shape (blocks, length); special ones are not asked for.
    Source: Ma et al. (2024), bag-of-word prediction.
    """
    named = torch.from_numpy(np.where(np.isin(ids, list(special)), -1, ids)).to(logits.device, torch.long)
    bag = torch.zeros(len(logits), logits.shape[1] + 1, device=logits.device).scatter_(1, named + 1, 1.0)[:, 1:]
    return -((bag * logits.log_softmax(-1)).sum(1) / bag.sum(1).clamp(min=1)).sum()


def vocabulary_logits(model: Any, states: Tensor) -> Tensor:
    """Return what a masked language model makes of its body's states, shape (tokens, width) -> (tokens, vocabulary)."""
    match model.config.model_type:
        case "electra":
            return model.generator_lm_head(model.generator_predictions(states))
        case "distilbert":
            return model.vocab_projector(model.vocab_layer_norm(model.activation(model.vocab_transform(states))))
        case "modernbert":
            return model.decoder(model.head(states))
        case "roberta":
            return model.lm_head(states)
    return model.cls(states)
