"""The fast step: the batches, losses and gradients of the plain loop, for a part of its work.

Each trick works inside the ordinary Hugging Face modules, so that peft and adapters go on working,
and each can be left out. Without any, this is the plain loop: padded batches through the model as
it is. The tests hold the two against each other for every method.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peftstudy.packing import Attention, Layout, Noise, folded_attention
from peftstudy.tokens import Tokens

TRICKS: Mapping[str, str] = {
    "packed": "texts one after the other without padding, attention within each",
    "first": "the last layer for the first token of each text alone, which is all that the head reads",
    "folded": "no keys and values in that layer: their matrices are applied to the question and the answer",
    "dropout": "dropout masks from 16-bit words of a fast generator",
    "embeddings": "gradients of word embeddings in one lasting array, cleared where they were written",
}
WORD = 2**16
LARGE_VOCABULARY = 4096  # rows from which a dense gradient of the embeddings is worth keeping


class Engine:
    """A model that computes logits for examples by number.

    extra_tokens: how many tokens the adapted model adds behind the first of each text.
    tricks: "fast" (all), "plain" (none), or names out of TRICKS; those that do not fit the model or
    the device are left out.
    """

    def __init__(self, model: nn.Module, extra_tokens: int, tricks: str | Collection[str], seed: int) -> None:
        self.model, self.extra_tokens, self.seed = model, extra_tokens, seed
        self.device = next(model.parameters()).device
        attentions = [module for module in model.modules() if _is_attention(module)]
        named = {"fast": TRICKS, "plain": ()}
        self.tricks = frozenset(named[tricks] if isinstance(tricks, str) else tricks)
        if not attentions:
            self.tricks -= {"packed"}
        if "packed" not in self.tricks:
            self.tricks -= {"first", "folded"}
        if "first" not in self.tricks:
            self.tricks -= {"folded"}
        if self.device.type != "cpu":
            self.tricks -= {"dropout"}
        self.layout: Layout | None = None
        self._words = np.random.SFC64(seed)
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
        self.layout = Layout(tokens.lengths[index] + self.extra_tokens)
        try:
            packed = tokens.packed(index)
            packed["position_ids"] += self._first_position
            return self.model(**self._tensors({name: row[None] for name, row in packed.items()})).logits
        finally:
            self.layout = None

    def _tensors(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}

    def _noise(self, rate: float) -> Noise:
        """Return what draws factors for attention weights: 0 with probability `rate`, else 1 / (1 - rate)."""
        if "dropout" in self.tricks:
            return lambda weights: _factors(self._words, weights.shape, rate, weights.dtype)
        return lambda weights: nn.functional.dropout(torch.ones_like(weights), rate)

    def _pack(self, attentions: list[Any]) -> None:
        """Let each attention read the layout of the batch, and the last layer keep first tokens alone."""
        for attention in attentions:
            _wrap(attention, self._attend, last=attention is attentions[-1])
        layers = [module for module in self.model.modules() if hasattr(module, "feed_forward_chunk")]
        _wrap(layers[-1], self._close)
        # RoBERTa counts positions on from its padding id.
        embeddings = next(module for module in self.model.modules() if hasattr(module, "position_embeddings"))
        padding = embeddings.position_embeddings.padding_idx
        self._first_position = 0 if padding is None else padding + 1

    def _attend(self, original: Callable, attention: Any, states: Tensor, *args: Any, last: bool, **kwargs: Any) -> Any:
        """Do what BertAttention does for a packed batch: states, shape (1, tokens, width)."""
        if self.layout is None:
            return original(states, *args, **kwargs)
        inner = attention.self
        asking = states[:, self.layout.firsts.to(states.device)] if last and "first" in self.tricks else states
        rate = getattr(inner, "dropout_prob", inner.dropout.p) if attention.training else 0.0
        noise, heads = self._noise(rate) if rate else None, inner.num_attention_heads
        # A method may have put a module of its own in a projection's place; then there is no one matrix to fold.
        if last and "folded" in self.tricks and type(inner.key) is type(inner.value) is nn.Linear:
            context = folded_attention(
                inner.query(asking)[0], states[0], inner.key, inner.value, self.layout, heads, noise
            )
        else:
            projected = inner.query(asking)[0], inner.key(states)[0], inner.value(states)[0]
            context = Attention.apply(*projected, self.layout, heads, noise)
        return (attention.output(context[None], asking),)

    def _close(self, original: Callable, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the first token of each text from the last layer, shape (texts, 1, width), as heads read them."""
        outputs = original(*args, **kwargs)
        if self.layout is None:
            return outputs
        states = outputs[0]
        firsts = states if "first" in self.tricks else states[:, self.layout.firsts.to(states.device)]
        return (firsts.transpose(0, 1), *outputs[1:])

    def _replace_dropout(self) -> None:
        def drop(original: Callable, module: nn.Dropout, states: Tensor) -> Tensor:
            if not module.training or not module.p:
                return states
            return states * _factors(self._words, states.shape, module.p, states.dtype)

        for module in self.model.modules():
            if type(module) is nn.Dropout:
                _wrap(module, drop)

    def _keep_embedding_gradients(self) -> None:
        for module in self.model.modules():
            if type(module) is nn.Embedding and module.weight.requires_grad and len(module.weight) >= LARGE_VOCABULARY:
                kept = _KeptGradient(module)
                _wrap(module, lambda original, module, ids, kept=kept: _Embed.apply(ids, module.weight, kept))


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
