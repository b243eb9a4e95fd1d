"""Packed batches in BERT, RoBERTa and ELECTRA: what their attention blocks and their last layer do with one."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from peftstudy.tricks.fused import attend
from peftstudy.tricks.packing import computed, folded_attention
from peftstudy.tricks.step import Step
from peftstudy.tricks.wrapping import wrap


def attentions(model: nn.Module) -> list[Any]:
    """Return the attention blocks of an encoder whose batches can be packed, the first layer's first."""
    return [module for module in model.modules() if _is_attention(module)]


def _is_attention(module: nn.Module) -> bool:
    """Whether it is the attention block of BERT or RoBERTa: projections within, output and residual around them."""
    inner = getattr(module, "self", None)
    if inner is None or not all(hasattr(inner, name) for name in ("query", "key", "value", "num_attention_heads")):
        return False
    return getattr(inner, "position_embedding_type", "absolute") == "absolute" and not getattr(
        inner, "is_decoder", False
    )


def can_fold(model: nn.Module) -> bool:
    """Whether keys and values of the last layer come from plain matrices; methods may put something in their place."""
    last = attentions(model)[-1].self
    return type(last.key) is type(last.value) is nn.Linear


def pack(model: nn.Module, step: Step, reads: bool, folds: bool) -> None:
    """Let each attention block know the batch's layout, and the last layer keep what is read.

    reads: whether the last layer is computed for that alone. folds: whether without keys and values, where it can be.
    """
    blocks = attentions(model)
    for block in blocks:
        is_last = block is blocks[-1]
        wrap(block, _attend, step=step, reads=reads and is_last, folds=folds and is_last)
    layers = [module for module in model.modules() if hasattr(module, "feed_forward_chunk")]
    wrap(layers[-1], _close, step=step, reads=reads)
    for layer in layers:
        layer.chunk_size_feed_forward = 0  # saves memory at the price of time, and wants to know the length


def _attend(
    original: Callable, block: Any, states: Tensor, *args: Any, step: Step, reads: bool, folds: bool, **kwargs: Any
) -> Any:
    """Do what BertAttention does for a packed batch: states, shape (1, tokens, width)."""
    batch = step.batch
    if batch is None:
        return original(states, *args, **kwargs)
    inner = block.self
    residual = states[:, batch.read] if reads else states
    query = inner.query(residual if batch.firsts else states)[0]
    rate = getattr(inner, "dropout_prob", inner.dropout.p) if block.training else 0.0
    heads = inner.num_attention_heads
    if folds and batch.firsts:
        noise = step.masks.noise(rate)
        context = folded_attention(query, states[0], inner.key, inner.value, batch.layout, heads, noise)
    else:
        projected = (query, inner.key(states)[0], inner.value(states)[0])
        context = attend(step, *map(computed, projected), heads, rate)
    if len(context) != residual.shape[1]:  # many tokens of a text are read: all have asked
        context = context[batch.read]
    return (block.output(context[None], residual),)


def _close(original: Callable, layer: Any, *args: Any, step: Step, reads: bool, **kwargs: Any) -> Any:
    """Return what is read of the last layer: first tokens as heads find them, shape (texts, 1, width)."""
    outputs, batch = original(*args, **kwargs), step.batch
    if batch is None:
        return outputs
    read = outputs[0] if reads else outputs[0][:, batch.read]
    return (read.transpose(0, 1) if batch.firsts else read, *outputs[1:])
