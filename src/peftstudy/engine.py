"""The fast step: the batches, losses and gradients of the plain loop, for a part of its work.

Each trick works inside the ordinary Hugging Face modules, so that peft and adapters go on working,
and each can be left out. Without any, this is the plain loop: padded batches through the model as
it is. The tests hold the two against each other for every method.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from peftstudy import dropout, embedding_gradients
from peftstudy.packing import Attention, Layout, Noise, folded_attention
from peftstudy.tokens import Tokens

TRICKS: Mapping[str, str] = {
    "packed": "texts one after the other without padding, attention within each",
    "cut": "where that cannot be: padded batches cut by length into small parts, their gradients added",
    "read": "the last layer only for the tokens that the head reads: the first of each text, or the masked ones",
    "folded": "no keys and values there for first tokens: their matrices are applied to the question and the answer",
    "cached": "the output of a frozen body once for each example, where no dropout acts in it",
    "dropout": "dropout masks from 16-bit words of a fast generator",
    "embeddings": "gradients of word embeddings in one lasting array, cleared where they were written",
}
BODY = ("embeddings", "encoder")
PART = 8  # examples of a padded batch that go through the model together when it is cut


@dataclass(frozen=True)
class Packed:
    """The packed batch that is on its way through the model.

    layout: where its texts are. read: the places of the tokens that the head reads, shape (tokens read,).
    firsts: whether those are the first tokens of the texts.
    """

    layout: Layout
    read: Tensor
    firsts: bool = False


class Engine:
    """A model that is given examples, and computes no more than its head reads.

    extra_tokens: how many tokens the adapted model adds behind the first of each text.
    plain_attention: whether tokens attend to the tokens of their text and nothing else.
    frozen_dropout: whether dropout acts in a body of which nothing trains.
    tricks: "fast" (all), "plain" (none), or names out of TRICKS; those that do not fit the model or
    the device are left out.
    """

    def __init__(
        self,
        model: nn.Module,
        tricks: str | Collection[str],
        seed: int,
        extra_tokens: int = 0,
        plain_attention: bool = True,
        frozen_dropout: bool = True,
    ) -> None:
        self.model, self.extra_tokens, self.seed = model, extra_tokens, seed
        self.device = next(model.parameters()).device
        still = not extra_tokens and not any(p.requires_grad for part in _body(model) for p in part.parameters())
        if still and not frozen_dropout:
            dropout.stop(_body(model))
        attentions = [module for module in model.modules() if _is_attention(module)]
        named = {"fast": TRICKS, "plain": ()}
        self.tricks = frozenset(named[tricks] if isinstance(tricks, str) else tricks)
        if not attentions or not plain_attention:
            self.tricks -= {"packed"}
        self.tricks -= {"cut"} if "packed" in self.tricks else {"read", "folded", "cached"}
        if not still or dropout.acts(_body(model)):
            self.tricks -= {"cached"}
        if "read" not in self.tricks:
            self.tricks -= {"folded"}
        if self.device.type != "cpu":
            self.tricks -= {"dropout"}
        self._batch: Packed | None = None
        self._words = np.random.SFC64(seed)
        self._kept: _KeptStates | None = None
        self._seen: Tensor | None = None
        self._answer: Tensor | None = None
        if "packed" in self.tricks:
            self._pack(attentions)
        if "dropout" in self.tricks:
            self._replace_dropout()
        if "embeddings" in self.tricks:
            self._keep_embedding_gradients()

    @property
    def largest_part(self) -> int | None:
        """How many examples at most should be asked for at once; None when it does not matter."""
        return PART if "cut" in self.tricks else None

    def begin_step(self, step: int) -> None:
        """Seed the dropout masks of a step, so that a resumed run draws those of an uninterrupted one."""
        self._words = np.random.SFC64([self.seed, step])

    def logits(self, tokens: Tokens, index: np.ndarray) -> Tensor:
        """Return the logits of the examples numbered `index`, sorted by length, shape (examples, outputs)."""
        if "packed" not in self.tricks:
            inputs = self._tensors(tokens.batch(index))
            if not inputs["token_type_ids"].any():
                del inputs["token_type_ids"]  # zeros are what every model takes by itself; some take no such argument
            return self.model(**inputs).logits
        if "cached" in self.tricks:
            return self._cached_logits(tokens, index)
        return self._packed_logits(tokens, index)

    def _packed_logits(self, tokens: Tokens, index: np.ndarray) -> Tensor:
        layout = Layout(tokens.lengths[index] + self.extra_tokens)
        with self._under_way(layout, layout.firsts, firsts=True):
            return self.model(**self._packed_inputs(layout, **tokens.packed(index))).logits

    @contextmanager
    def _under_way(self, layout: Layout, read: Tensor, firsts: bool = False) -> Iterator[None]:
        """Let the modules know which batch is on its way through the model."""
        self._batch = Packed(layout, read.to(self.device), firsts)
        try:
            yield
        finally:
            self._batch = None

    def _packed_inputs(
        self, layout: Layout, input_ids: np.ndarray, position_ids: np.ndarray, token_type_ids: np.ndarray
    ) -> dict[str, Tensor]:
        """Return the model's inputs, each shape (1, tokens): texts, and a tail of tokens that are no text's first."""
        positions = self._first_position + np.pad(position_ids, (0, layout.tail), constant_values=1)
        ids, types = np.pad(input_ids, (0, layout.tail), mode="wrap"), np.pad(token_type_ids, (0, layout.tail))
        return self._tensors({"input_ids": ids[None], "position_ids": positions[None], "token_type_ids": types[None]})

    def _cached_logits(self, tokens: Tokens, index: np.ndarray) -> Tensor:
        """Let the body see each example once; later its head alone is computed."""
        if self._kept is None or self._kept.tokens is not tokens:
            self._kept = _KeptStates(tokens)
        fresh = index[~self._kept.there[index]]
        if len(fresh):
            with torch.no_grad():
                self._packed_logits(tokens, fresh)  # the encoder leaves what it gave
            self._kept.keep(fresh, self._seen)
        self._answer = self._kept.states[torch.from_numpy(index).to(self.device)]
        try:
            one = torch.zeros(1, 1, dtype=torch.long, device=self.device)  # stands for all; nobody reads it
            return self.model(input_ids=one).logits
        finally:
            self._answer = None

    def states(self, ids: np.ndarray, read: np.ndarray) -> Tensor:
        """Return the body's last hidden states where `read` is true, shape (tokens read, width).

        ids: texts of one length, shape (texts, length). read: the same shape, booleans.
        """
        if "packed" not in self.tricks:
            found = self.model.base_model(**self._tensors({"input_ids": ids})).last_hidden_state
            return found[torch.from_numpy(read).to(self.device)]
        layout, places = Layout(np.full(*ids.shape)), np.tile(np.arange(ids.shape[1]), len(ids))
        with self._under_way(layout, torch.from_numpy(np.flatnonzero(read))):
            inputs = self._packed_inputs(layout, ids.ravel(), places, np.zeros_like(places))
            return self.model.base_model(**inputs).last_hidden_state[0]

    def _tensors(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}

    def _noise(self, rate: float) -> Noise:
        """Return what draws factors for attention weights: 0 with probability `rate`, else 1 / (1 - rate)."""
        if "dropout" in self.tricks:
            return lambda weights: dropout.factors(self._words, weights.shape, rate, weights.dtype)
        return lambda weights: nn.functional.dropout(torch.ones_like(weights), rate)

    def _pack(self, attentions: list[Any]) -> None:
        """Let each attention know the batch's layout, and the last layer keep what is read."""
        for attention in attentions:
            _wrap(attention, self._attend, last=attention is attentions[-1])
        layers = [module for module in self.model.modules() if hasattr(module, "feed_forward_chunk")]
        _wrap(layers[-1], self._close)
        if "cached" in self.tricks:
            _wrap(_body(self.model)[-1], self._encode)
        # RoBERTa counts positions on from its padding id.
        embeddings = next(module for module in self.model.modules() if hasattr(module, "position_embeddings"))
        padding = embeddings.position_embeddings.padding_idx
        self._first_position = 0 if padding is None else padding + 1

    def _attend(self, original: Callable, attention: Any, states: Tensor, *args: Any, last: bool, **kwargs: Any) -> Any:
        """Do what BertAttention does for a packed batch: states, shape (1, tokens, width)."""
        if self._batch is None:
            return original(states, *args, **kwargs)
        inner, layout, reading = attention.self, self._batch.layout, last and "read" in self.tricks
        residual = states[:, self._batch.read] if reading else states
        asking = residual if self._batch.firsts else states
        rate = getattr(inner, "dropout_prob", inner.dropout.p) if attention.training else 0.0
        noise, heads = self._noise(rate) if rate else None, inner.num_attention_heads
        query = inner.query(asking)[0]
        if reading and self._folds(inner):
            context = folded_attention(query, states[0], inner.key, inner.value, layout, heads, noise)
        else:
            context = Attention.apply(query, inner.key(states)[0], inner.value(states)[0], layout, heads, noise)
        if len(context) != residual.shape[1]:  # many tokens of a text are read: all have asked
            context = context[self._batch.read]
        return (attention.output(context[None], residual),)

    def _folds(self, inner: Any) -> bool:
        """Whether one token of each text asks, and keys and values are plain matrices: methods may replace them."""
        plain = type(inner.key) is type(inner.value) is nn.Linear
        return plain and self._batch.firsts and "folded" in self.tricks

    def _close(self, original: Callable, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what is read of the last layer: first tokens as heads find them, shape (texts, 1, width)."""
        outputs = original(*args, **kwargs)
        if self._batch is None:
            return outputs
        read = outputs[0] if "read" in self.tricks else outputs[0][:, self._batch.read]
        return (read.transpose(0, 1) if self._batch.firsts else read, *outputs[1:])

    def _encode(self, original: Callable, encoder: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer for the encoder with what it gave before, shape (texts, 1, width)."""
        if self._answer is None:
            output = original(*args, **kwargs)
            self._seen = output[0]
            return output
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=self._answer)

    def _replace_dropout(self) -> None:
        def drop(original: Callable, module: nn.Dropout, states: Tensor) -> Tensor:
            if not module.training or not module.p:
                return states
            return states * dropout.factors(self._words, states.shape, module.p, states.dtype)

        for module in self.model.modules():
            if type(module) is nn.Dropout:
                _wrap(module, drop)

    def _keep_embedding_gradients(self) -> None:
        for module in embedding_gradients.worth_keeping(self.model):
            kept = embedding_gradients.Kept(module)
            _wrap(module, lambda original, module, ids, kept=kept: embedding_gradients.embed(ids, kept))


class _KeptStates:
    """What a frozen body makes of each example: the states that the head reads."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens, self.there = tokens, np.zeros(len(tokens.lengths), dtype=bool)
        self.states = torch.empty(0)

    def keep(self, index: np.ndarray, states: Tensor) -> None:
        """Keep states, shape (examples, 1, width), of the examples numbered `index`."""
        if not len(self.states):
            self.states = states.new_zeros(len(self.there), *states.shape[1:])
        self.states[torch.from_numpy(index).to(states.device)] = states
        self.there[index] = True


def _body(model: nn.Module) -> list[nn.Module]:
    """Return the embeddings and the encoder of an encoder model, adapted or not; of others, the whole model."""
    parts = [next((m for n, m in model.named_modules() if n.split(".")[-1] == name), None) for name in BODY]
    return [model] if None in parts else parts


def _is_attention(module: nn.Module) -> bool:
    """Whether it is the attention block of BERT or RoBERTa: projections within, output and residual around them."""
    inner = getattr(module, "self", None)
    if inner is None or not all(hasattr(inner, name) for name in ("query", "key", "value", "num_attention_heads")):
        return False
    return getattr(inner, "position_embedding_type", "absolute") == "absolute"


def _wrap(module: nn.Module, replacement: Callable, **fixed: Any) -> None:
    """Let `replacement(original, module, ...)` answer calls of the module."""
    original = module.forward

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return replacement(original, self, *args, **fixed, **kwargs)

    module.forward = MethodType(forward, module)
