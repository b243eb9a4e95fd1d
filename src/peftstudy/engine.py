"""The fast step: the batches, losses and gradients of the plain loop, for a part of its work.

Each trick works inside the ordinary Hugging Face modules, so that peft and adapters go on working,
and each can be left out. Without any, this is the plain loop: padded batches through the model as
it is. The tests hold the two against each other for every method.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from peftstudy.packing import Attention, Layout, Noise, folded_attention
from peftstudy.tokens import Tokens

TRICKS: Mapping[str, str] = {
    "packed": "texts one after the other without padding, attention within each",
    "read": "the last layer only for the tokens that the head reads: the first of each text, or the masked ones",
    "folded": "no keys and values there for first tokens: their matrices are applied to the question and the answer",
    "cached": "the output of a frozen body once for each example, where no dropout acts in it",
    "dropout": "dropout masks from 16-bit words of a fast generator",
    "embeddings": "gradients of word embeddings in one lasting array, cleared where they were written",
}
BODY = ("embeddings", "encoder")
WORD = 2**16
LARGE_VOCABULARY = 4096  # rows from which a dense gradient of the embeddings is worth keeping


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
        frozen_dropout: bool = True,
    ) -> None:
        self.model, self.extra_tokens, self.seed = model, extra_tokens, seed
        self.device = next(model.parameters()).device
        still = not extra_tokens and not any(p.requires_grad for part in _body(model) for p in part.parameters())
        if still and not frozen_dropout:
            stop_dropout(_body(model))
        attentions = [module for module in model.modules() if _is_attention(module)]
        named = {"fast": TRICKS, "plain": ()}
        self.tricks = frozenset(named[tricks] if isinstance(tricks, str) else tricks)
        if not attentions:
            self.tricks -= {"packed"}
        if "packed" not in self.tricks:
            self.tricks -= {"read", "folded", "cached"}
        if not still or _drops(_body(model)):
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
        layout, packed = Layout(tokens.lengths[index] + self.extra_tokens), tokens.packed(index)
        self._batch = Packed(layout, layout.firsts.to(self.device), firsts=True)
        packed["position_ids"] += self._first_position
        try:
            return self.model(**self._tensors({name: row[None] for name, row in packed.items()})).logits
        finally:
            self._batch = None

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
        packed = {"input_ids": ids.reshape(1, -1), "position_ids": places[None] + self._first_position}
        packed["token_type_ids"] = np.zeros_like(packed["input_ids"])
        self._batch = Packed(layout, torch.from_numpy(np.flatnonzero(read)).to(self.device))
        try:
            return self.model.base_model(**self._tensors(packed)).last_hidden_state[0]
        finally:
            self._batch = None

    def _tensors(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}

    def _noise(self, rate: float) -> Noise:
        """Return what draws factors for attention weights: 0 with probability `rate`, else 1 / (1 - rate)."""
        if "dropout" in self.tricks:
            return lambda weights: _factors(self._words, weights.shape, rate, weights.dtype)
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
            return states * _factors(self._words, states.shape, module.p, states.dtype)

        for module in self.model.modules():
            if type(module) is nn.Dropout:
                _wrap(module, drop)

    def _keep_embedding_gradients(self) -> None:
        owners = Counter(id(parameter) for m in self.model.modules() for parameter in m.parameters(recurse=False))
        for module in self.model.modules():
            if type(module) is not nn.Embedding or len(module.weight) < LARGE_VOCABULARY:
                continue
            if (
                module.weight.requires_grad and owners[id(module.weight)] == 1
            ):  # a tied output layer's gradient is dense
                kept = _KeptGradient(module)
                _wrap(module, lambda original, module, ids, kept=kept: _Embed.apply(ids, module.weight, kept))


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


class _KeptGradient:
    """The gradient of an embedding in an array that stays.

    A new dense one each step costs more than all else that a small model does with its vocabulary:
    fresh memory, cleared whole, for a few thousand rows.
    """

    def __init__(self, module: nn.Embedding) -> None:
        self.weight, self.padding = module.weight, module.padding_idx
        self.gradient: Tensor | None = None
        self.written: list[Tensor] = []

    def add(self, ids: Tensor, gradient: Tensor) -> None:
        """Add gradients, shape (tokens, width), at the rows `ids`, shape (tokens,)."""
        if self.gradient is None:
            self.gradient = torch.zeros_like(self.weight)
        if self.weight.grad is None:  # the optimizer's zero_grad() let it go
            for rows in self.written:
                self.gradient.index_fill_(0, rows, 0.0)
            self.written = []
            self.weight.grad = self.gradient
        rows, place = torch.unique(ids, return_inverse=True)
        compact = torch.ops.aten.embedding_dense_backward(gradient, place, len(rows), -1, False)
        if self.padding is not None:
            compact[rows == self.padding] = 0.0
        self.gradient.index_add_(0, rows, compact)
        self.written.append(rows)


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight: Tensor, kept: _KeptGradient) -> Tensor:
        ctx.kept = kept
        ctx.save_for_backward(ids)
        return nn.functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        ids = ctx.saved_tensors[0].reshape(-1)
        ctx.kept.add(ids, gradients[0].reshape(len(ids), -1))
        return None, None, None


def _factors(words: Any, shape: Sequence[int], rate: float, dtype: torch.dtype) -> Tensor:
    """Return a tensor of 0 with probability `rate`, to the nearest 1/65,536, and else 1 / (1 - rate)."""
    size = int(np.prod(shape))
    drawn = np.asarray(words.random_raw(-(-size // 4))).view(np.uint16)[:size]
    kept = drawn >= round(rate * WORD)
    factor = torch.tensor(1 / (1 - rate), dtype=dtype)
    if dtype == torch.bfloat16:  # by its bits: numpy has no such type
        bits = np.multiply(kept, factor.view(torch.int16).numpy(), dtype=np.int16)
        return torch.from_numpy(bits).view(torch.bfloat16).view(shape)
    return torch.from_numpy(np.multiply(kept, factor.numpy(), dtype=factor.numpy().dtype)).view(shape)


def _body(model: nn.Module) -> list[nn.Module]:
    """Return the embeddings and the encoder of an encoder model, adapted or not; of others, the whole model."""
    parts = [next((m for n, m in model.named_modules() if n.split(".")[-1] == name), None) for name in BODY]
    return [model] if None in parts else parts


def _drops(parts: Sequence[nn.Module]) -> bool:
    modules = [module for part in parts for module in part.modules()]
    return any(getattr(m, "dropout_prob", 0.0) or (isinstance(m, nn.Dropout) and m.p) for m in modules)


def stop_dropout(parts: Sequence[nn.Module]) -> None:
    """Let no dropout act in these modules; the model's configuration keeps its rates."""
    for module in (module for part in parts for module in part.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0


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
