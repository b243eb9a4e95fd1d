"""The fast step: the batches, losses and gradients of the plain loop, for a part of its work.

Each trick works inside the ordinary Hugging Face modules, so that peft and adapters go on working,
and each can be left out. Without any, this is the plain loop: padded batches through the model as
it is. The tests hold the two against each other for every method.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from peftstudy import devices, writing
from peftstudy.tokens import Tokens
from peftstudy.tricks import allocation, dropout, embedding_gradients, frozen_body
from peftstudy.tricks.packing import Attention, Layout, Noise, first_position, folded_attention

TRICKS: Mapping[str, str] = {
    "packed": "texts one after the other without padding, attention within each",
    "cut": "where that cannot be: padded batches cut by length into small parts, their gradients added",
    "read": "the last layer only for the tokens that the head reads: the first of each text, marked or masked ones",
    "folded": "no keys and values there for first tokens: their matrices are applied to the question and the answer",
    "cached": "the output of a frozen body once for each example, where no dropout acts in it",
    "dropout": "dropout masks from 16-bit words of a fast generator",
    "targets": "of texts that are written, the vocabulary's logits at the targets alone",
    "embeddings": "gradients of word embeddings in one lasting array, cleared where they were written",
    "memory": "memory that a step frees stays with the process, for the next one",
}
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
    """A model that is given texts, and computes no more than its head reads.

    extra_tokens: how many tokens the adapted model adds behind the first of each text.
    plain_attention: whether tokens attend to the tokens of their text and nothing else.
    dropout_in_frozen_body: whether dropout acts in a body of which nothing trains.
    reads_first: whether the head reads the first token of each text and no other.
    activation_checkpointing: whether layers forget what they computed, and compute it again for their gradients.
    tricks: "fast" (all), "plain" (none), or names out of TRICKS; those that do not fit the model or
    the device are left out, and so are those that need another that is left out.
    """

    def __init__(
        self,
        model: nn.Module,
        tricks: str | Collection[str],
        seed: int,
        extra_tokens: int = 0,
        plain_attention: bool = True,
        dropout_in_frozen_body: bool = True,
        reads_first: bool = True,
        activation_checkpointing: bool = False,
    ) -> None:
        self.model, self.extra_tokens, self.seed = model, extra_tokens, seed
        self.device = next(model.parameters()).device
        frozen = not extra_tokens and frozen_body.is_frozen(model)
        if frozen and not dropout_in_frozen_body:
            dropout.stop(frozen_body.parts(model))
        attentions = [module for module in model.modules() if _is_attention(module)]
        self.tricks = _named(tricks)
        if not attentions or not plain_attention:
            self.tricks -= {"packed"}
        self.tricks -= {"cut"} if "packed" in self.tricks else {"read", "folded", "cached"}
        if not reads_first:
            self.tricks -= {"folded", "cached"}
        if not frozen or frozen_body.drops(model) or hasattr(model.base_model, "embeddings_project"):
            self.tricks -= {"cached"}
        if "read" not in self.tricks:
            self.tricks -= {"folded"}
        if self.device.type != "cpu":
            self.tricks -= {"dropout", "memory"}
        if not allocation.possible():
            self.tricks -= {"memory"}
        if writing.vocabulary_layer(model) is None:
            self.tricks -= {"targets"}
        if devices.count() > 1:  # they reach for weights while no layer has gathered them
            self.tricks -= {"cached", "embeddings"}
        self._batch: Packed | None = None
        self._words = np.random.SFC64(seed)
        self._frozen: frozen_body.States | None = None
        self._answer: Tensor | None = None
        allocation.keep("memory" in self.tricks)
        if "packed" in self.tricks:
            self._pack(attentions)
        if "dropout" in self.tricks:
            self._replace_dropout()
        if "embeddings" in self.tricks:
            self._keep_embedding_gradients()
        if activation_checkpointing:
            self._recompute_layers()

    @property
    def largest_part(self) -> int | None:
        """How many examples at most should be asked for at once; None when it does not matter."""
        return PART if "cut" in self.tricks else None

    @cached_property
    def _first_position(self) -> int:
        return first_position(self.model)

    def begin_step(self, step: int) -> None:
        """Seed the dropout masks of a step, so that a resumed run draws those of an uninterrupted one."""
        if devices.count() == 1:
            self._words = np.random.SFC64([self.seed, step])
        else:  # other masks in each process, for both kinds of generators
            self._words = np.random.SFC64([self.seed, step, devices.number()])
            torch.manual_seed(int(self._words.random_raw()) >> 1)

    def logits(self, tokens: Tokens, index: np.ndarray, read: np.ndarray | None = None) -> Tensor:
        """Return the logits of the texts numbered `index`, sorted by length, shape (texts, outputs).

        read: which of their tokens the head reads, shape (tokens,), booleans; then the shape is (tokens read, outputs).
        """
        if "packed" not in self.tricks:
            return self._padded_logits(tokens, index, read)
        if "cached" in self.tricks:
            return self._cached_logits(tokens, index)
        return self._packed_logits(tokens, index, read)

    def _padded_logits(self, tokens: Tokens, index: np.ndarray, read: np.ndarray | None) -> Tensor:
        inputs = self._tensors(tokens.batch(index))
        if not inputs["token_type_ids"].any():
            del inputs["token_type_ids"]  # zeros are what every model takes by itself; some take no such argument
        config = writing.library_model(self.model).config
        config.pad_token_id = tokens.about["pad_id"]  # decoders look for the last token that is none
        logits = _logits(self.model(**inputs))
        if read is None:
            return logits
        text = torch.cat([logits[:, :1], logits[:, 1 + self.extra_tokens :]], dim=1)
        return text[inputs["attention_mask"].bool()][torch.from_numpy(read).to(self.device)]

    def target_logits(self, tokens: Tokens, index: np.ndarray) -> Tensor:
        """Return the logits at each token of the examples' targets, shape (target tokens, vocabulary)."""
        return writing.target_logits(self.model, tokens, index, self.extra_tokens, "targets" not in self.tricks)

    def write(self, tokens: Tokens, index: np.ndarray) -> list[str]:
        """Return the texts that the model writes for the examples, in the way that the dataset asks for."""
        about = tokens.about
        length, beams = about["target_length"], about["beams"]
        found = writing.write(self.model, tokens, index, length, beams, self.extra_tokens)
        return self._tokenizer.batch_decode(found, skip_special_tokens=True)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        folder = writing.library_model(self.model).config.name_or_path
        return AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True)

    def _packed_logits(self, tokens: Tokens, index: np.ndarray, read: np.ndarray | None) -> Tensor:
        layout, packed = Layout(tokens.lengths[index] + self.extra_tokens), tokens.packed(index)
        if read is None:
            with self._under_way(layout, layout.firsts, firsts=True):
                return self.model(**self._packed_inputs(layout, **packed)).logits
        within = packed["position_ids"]
        places = np.repeat(layout.offsets[:-1], tokens.lengths[index]) + within + self.extra_tokens * (within > 0)
        with self._under_way(layout, torch.from_numpy(places[read])):
            return _logits(self.model(**self._packed_inputs(layout, **packed)))[0]

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
        """Let the body see each example once; later the head alone is computed."""
        if self._frozen is None or self._frozen.tokens is not tokens:
            self._frozen = frozen_body.States(tokens, self._body_states)
        self._answer = self._frozen.of(index)
        try:
            one = torch.ones(1, 1, dtype=torch.long, device=self.device)  # stands for all; nobody reads it
            return self.model(input_ids=one, attention_mask=one).logits
        finally:
            self._answer = None

    def _body_states(self, tokens: Tokens, index: np.ndarray) -> Tensor:
        """Return what the head reads of each example, shape (examples, 1, width), from the body alone."""
        embeddings, encoder = frozen_body.parts(self.model)
        layout = Layout(tokens.lengths[index])
        with self._under_way(layout, layout.firsts, firsts=True):
            return encoder(embeddings(**self._packed_inputs(layout, **tokens.packed(index))))[0]

    def states(self, ids: np.ndarray, read: np.ndarray) -> Tensor:
        """Return the body's last hidden states where `read` is true, shape (tokens read, width).

        ids: texts of one length, shape (texts, length). read: the same shape, booleans.
        """
        if "packed" not in self.tricks:
            inputs = {"input_ids": ids}
            if self._first_position:  # RoBERTa would count by what is padding, which a masked token may be turned into
                inputs["position_ids"] = np.broadcast_to(np.arange(ids.shape[1]), ids.shape) + self._first_position
            inputs = self._tensors(inputs)
            found = self.model.base_model(**inputs).last_hidden_state
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
        for layer in layers:
            layer.chunk_size_feed_forward = 0  # saves memory at the price of time, and wants to know the length
        if "cached" in self.tricks:
            encoder = frozen_body.parts(self.model)[-1]
            _wrap(encoder, lambda *call, **named: frozen_body.answer(*call[:2], self._answer, *call[2:], **named))

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
            # Some of peft's modules give their input's type, others the other projections'.
            projected = (query, inner.key(states)[0], inner.value(states)[0])
            context = Attention.apply(*map(self._computed, projected), layout, heads, noise)
        if len(context) != residual.shape[1]:  # many tokens of a text are read: all have asked
            context = context[self._batch.read]
        return (attention.output(context[None], residual),)

    def _computed(self, states: Tensor) -> Tensor:
        """Return states in the type that products are computed in."""
        kind = self.device.type
        return states.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else states

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

    def _recompute_layers(self) -> None:
        """Keep of each layer what went in alone (Chen et al., 2016); a layer computed again is as it was."""
        library = next(module for module in self.model.modules() if hasattr(module, "gradient_checkpointing_enable"))
        library.gradient_checkpointing_enable({"use_reentrant": False})
        for layer in self.model.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                checkpoint = layer._gradient_checkpointing_func
                layer._gradient_checkpointing_func = lambda compute, *args, checkpoint=checkpoint: checkpoint(
                    self._repeatable(compute), *args
                )

    def _repeatable(self, compute: Callable) -> Callable:
        """Return a layer's computation that finds, when it is repeated, its first call's batch and dropout masks."""
        first: list[tuple[Packed | None, Any]] = []

        def call(*args: Any) -> Any:
            if not first:
                first.append((self._batch, self._words.state))
                return compute(*args)
            now = self._batch, self._words.state
            try:
                self._batch, self._words.state = first[0]
                return compute(*args)
            finally:
                self._batch, self._words.state = now

        return call


def _logits(output: Any) -> Tensor:
    """Return what a head says of each text or token; of start and end of an answer, both side by side."""
    if hasattr(output, "start_logits"):
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    return output.logits


def _named(tricks: str | Collection[str]) -> frozenset[str]:
    names = {"fast": TRICKS, "plain": ()}[tricks] if isinstance(tricks, str) else tricks
    if unknown := set(names) - TRICKS.keys():
        raise ValueError(f"no tricks: {sorted(unknown)}")
    return frozenset(names)


def _is_attention(module: nn.Module) -> bool:
    """Whether it is the attention block of BERT or RoBERTa: projections within, output and residual around them."""
    inner = getattr(module, "self", None)
    if inner is None or not all(hasattr(inner, name) for name in ("query", "key", "value", "num_attention_heads")):
        return False
    return getattr(inner, "position_embedding_type", "absolute") == "absolute" and not getattr(
        inner, "is_decoder", False
    )


def _wrap(module: nn.Module, replacement: Callable, **fixed: Any) -> None:
    """Let `replacement(original, module, ...)` answer calls of the module."""
    original = module.forward

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return replacement(original, self, *args, **fixed, **kwargs)

    module.forward = MethodType(forward, module)
