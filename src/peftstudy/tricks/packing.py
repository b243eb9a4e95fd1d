"""Packed batches: texts one after the other, without padding, and attention within each of them.

Everything in an encoder but attention works on single tokens and does not care whose they are.
Attention works on groups of texts of like lengths, padded to the longest of the group alone.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

GROUP = 8  # texts that are attended to together at the least: smaller products run slower, larger groups pad more
STEP = 16  # tokens: lengths of groups are multiples, for libraries prepare (and keep) a product for each new shape

Noise = Callable[[Tensor], Tensor]
"""Gives the factors of dropout, 0 or 1 / (1 - rate), for attention weights."""


@dataclass(frozen=True)
class Group:
    """Texts that stand next to each other in a batch and are attended to together.

    first, count: its texts, counted within the batch. start, stop: its tokens.
    lengths: of its texts, in tokens, shape (count,).
    """

    first: int
    count: int
    start: int
    stop: int
    lengths: np.ndarray

    @property
    def longest(self) -> int:
        return _round_up(int(self.lengths.max()), STEP)

    @cached_property
    def valid(self) -> Tensor | None:
        """Which places of the padded group hold tokens, shape (count, longest); None when all do."""
        if (self.lengths == self.longest).all():
            return None
        return torch.from_numpy(np.arange(self.longest) < self.lengths[:, None])

    @cached_property
    def places(self) -> Tensor:
        """Where the group's tokens stand when it is padded, shape (tokens,): the numbers of these places."""
        return self.valid.flatten().nonzero().squeeze(1)

    @cached_property
    def later(self) -> Tensor:
        """Which places, by column, stand behind which, by row: shape (longest, longest)."""
        return torch.ones(self.longest, self.longest, dtype=torch.bool).triu(1)

    def pad(self, tokens: Tensor) -> Tensor:
        """Return the group's rows of `tokens`, shape (all tokens, width), as (count, longest, width)."""
        own = tokens[self.start : self.stop]
        if self.valid is None:
            return own.view(self.count, self.longest, -1)
        padded = own.new_zeros(self.count * self.longest, own.shape[-1])
        return padded.index_copy(0, self.places.to(own.device), own).view(self.count, self.longest, -1)

    def unpad(self, padded: Tensor, tokens: Tensor) -> None:
        """Write (count, longest, width) into the group's rows of `tokens`."""
        flat = padded.reshape(-1, padded.shape[-1])
        tokens[self.start : self.stop] = flat if self.valid is None else flat[self.places.to(flat.device)]


@dataclass(frozen=True)
class Layout:
    """Where the texts of a packed batch are.

    lengths: shape (texts,), in tokens; ascending order pads least.
    Behind the texts stands a tail that nobody reads, at most a sixteenth of them: it makes the number
    of tokens one of few.
    """

    lengths: np.ndarray

    @cached_property
    def tokens(self) -> int:
        """The number of tokens, tail included."""
        texts = int(self.offsets[-1])
        return _round_up(texts, max(STEP, 2 ** (texts.bit_length() - 5)))

    @property
    def tail(self) -> int:
        return self.tokens - int(self.offsets[-1])

    @cached_property
    def offsets(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.lengths)])

    @cached_property
    def firsts(self) -> Tensor:
        """The place of each text's first token, shape (texts,)."""
        return torch.from_numpy(self.offsets[:-1])

    @cached_property
    def lasts(self) -> Tensor:
        """The place of each text's last token, shape (texts,)."""
        return torch.from_numpy(self.offsets[1:] - 1)

    @cached_property
    def groups(self) -> list[Group]:
        return list(self._groups())

    def _groups(self) -> Iterator[Group]:
        first = 0
        while first < len(self.lengths):
            last = min(first + GROUP, len(self.lengths))
            while last + GROUP <= len(self.lengths) and self.lengths[last + GROUP - 1] == self.lengths[first]:
                last += GROUP
            lengths = self.lengths[first:last]
            yield Group(first, last - first, int(self.offsets[first]), int(self.offsets[last]), lengths)
            first = last


class Attention(torch.autograd.Function):
    """softmax(q k' / sqrt(d)) v within each text of a packed batch, with dropout on the weights.

    query: shape (tokens, width), or (texts, width) when only one token of each text asks, which sees all of it.
    key, value: shape (tokens, width). Returns the shape of query.
    noise: None without dropout. causal: whether a token sees itself and those before it alone.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: Layout,
        heads: int,
        noise: Noise | None,
        causal: bool = False,
    ):
        ctx.layout, ctx.heads, ctx.tokens, ctx.firsts = layout, heads, len(key), len(query) != len(key)
        context = torch.zeros_like(query)
        kept: list[Tensor] = []
        differentiable = any(ctx.needs_input_grad[:3])
        for group in layout.groups:
            q = _heads(_asked(group, query, ctx.firsts), heads)
            k, v = (_heads(group.pad(states), heads) for states in (key, value))
            q = q * (1 / math.sqrt(q.shape[-1]))
            scores = torch.bmm(q, k.transpose(1, 2))
            if causal and not ctx.firsts:  # padding stands behind all that counts
                scores.masked_fill_(group.later.to(scores.device), -torch.inf)
            elif group.valid is not None:
                absent = ~group.valid.to(scores.device)
                scores.view(group.count, heads, -1, group.longest).masked_fill_(absent[:, None, None], -torch.inf)
            weights = torch._softmax(scores, -1, False)
            factors = noise(weights) if noise else weights.new_empty(0)
            used = weights * factors if noise else weights
            _answer(group, _joined(torch.bmm(used, v), heads), context, ctx.firsts)
            if differentiable:
                kept += [q, k, v, weights, factors]
        ctx.save_for_backward(*kept)
        return context

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        (gradient,) = gradients
        layout, heads, kept = ctx.layout, ctx.heads, ctx.saved_tensors
        width = gradient.shape[-1]
        of_query = torch.zeros_like(gradient)
        of_key, of_value = (gradient.new_zeros(ctx.tokens, width) for _ in range(2))
        for number, group in enumerate(layout.groups):
            q, k, v, weights, factors = kept[5 * number : 5 * number + 5]
            g = _heads(_asked(group, gradient, ctx.firsts), heads)
            used = weights * factors if factors.numel() else weights
            group.unpad(_joined(torch.bmm(used.transpose(1, 2), g), heads), of_value)
            of_weights = torch.bmm(g, v.transpose(1, 2))
            if factors.numel():
                of_weights *= factors
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            group.unpad(_joined(torch.bmm(of_scores.transpose(1, 2), q), heads), of_key)
            scaled = torch.bmm(of_scores, k) * (1 / math.sqrt(q.shape[-1]))
            _answer(group, _joined(scaled, heads), of_query, ctx.firsts)
        return of_query, of_key, of_value, None, None, None, None


def computed(states: Tensor) -> Tensor:
    """Return states in the type that products are computed in.

    Some of peft's modules give their input's type, others the other projections'; Llama's rotations give their own.
    """
    kind = states.device.type
    return states.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else states


def folded_attention(
    query: Tensor, states: Tensor, key: nn.Linear, value: nn.Linear, layout: Layout, heads: int, noise: Noise | None
) -> Tensor:
    """Return what the first token of each text attends to, shape (texts, width), from states (tokens, width).

    query: of the first tokens, shape (texts, width). With one question a text, q'(K x) = (K'q)'x and
    sum p (V x) = V (sum p x): two products for each text instead of two for each token.
    """
    texts, width = query.shape
    query = query.view(texts, heads, -1) * (heads / width) ** 0.5
    asked = torch.einsum("thd,hdw->thw", query, key.weight.view(heads, width // heads, -1))
    if key.bias is not None:  # the same for all tokens of a text, so without effect; but a parameter like the others
        constant = (query * key.bias.view(heads, -1)).sum(-1, keepdim=True)
    mixed, shares = [], []
    for group in layout.groups:
        own = group.pad(states)
        rows = slice(group.first, group.first + group.count)
        scores = asked[rows] @ own.transpose(1, 2)
        if key.bias is not None:
            scores = scores + constant[rows]
        if group.valid is not None:
            scores = scores.masked_fill(~group.valid.to(scores.device)[:, None], -torch.inf)
        weights = scores.softmax(-1)
        if noise:
            weights = weights * noise(weights)
        mixed.append(weights @ own)
        shares.append(weights.sum(-1))
    by_head = value.weight.view(heads, width // heads, -1)
    answer = torch.einsum("thw,hdw->thd", torch.cat(mixed), by_head)
    if value.bias is not None:  # dropout keeps the weights of a text from adding up to 1
        answer = answer + torch.cat(shares)[..., None] * value.bias.view(heads, -1)
    return answer.reshape(texts, width)


def first_position(model: nn.Module) -> int:
    """Return the position of a text's first token: RoBERTa counts on from its padding id."""
    tables = (getattr(module, "position_embeddings", None) for module in model.modules())
    padding = next((table.padding_idx for table in tables if isinstance(table, nn.Embedding)), None)
    return 0 if padding is None else padding + 1


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


def _asked(group: Group, states: Tensor, firsts: bool) -> Tensor:
    """Return the rows that ask in a group, shape (count, rows of each, width)."""
    return states[group.first : group.first + group.count].unsqueeze(1) if firsts else group.pad(states)


def _answer(group: Group, padded: Tensor, states: Tensor, firsts: bool) -> None:
    if firsts:
        states[group.first : group.first + group.count] = padded.squeeze(1)
    else:
        group.unpad(padded, states)


def _heads(states: Tensor, heads: int) -> Tensor:
    """(count, length, width) -> (count * heads, length, width / heads)"""
    count, length, width = states.shape
    return states.view(count, length, heads, -1).transpose(1, 2).reshape(count * heads, length, width // heads)


def _joined(states: Tensor, heads: int) -> Tensor:
    """(count * heads, length, depth) -> (count, length, heads * depth)"""
    rows, length, depth = states.shape
    return states.view(rows // heads, heads, length, depth).transpose(1, 2).reshape(rows // heads, length, -1)
