"""The fast step: the batches, losses and gradients of the plain loop, for a part of its work.

Each trick works inside the ordinary Hugging Face modules, so that peft and adapters go on working,
and each can be left out. Without any, this is the plain loop: padded batches through the model as
it is. The tests hold the two against each other for every method. What a trick does within the
modules, and why, stands in a file of tricks/; here is what goes into the model and comes out.
"""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peftstudy import lean, writing  # noqa: F401 -- lean: before any model
from peftstudy.tokens import Tokens
from peftstudy.tricks import (
    allocation,
    checkpointing,
    decoders,
    dropout,
    embedding_gradients,
    encoders,
    frozen_body,
    products,
)
from peftstudy.tricks.fitting import fitting
from peftstudy.tricks.packing import Layout, first_position
from peftstudy.tricks.step import Packed, Step

TRICKS: Mapping[str, str] = {
    "packed": "texts one after the other without padding, attention within each",
    "cut": "where that cannot be, and where texts are written: batches cut by length into small parts",
    "read": "the last layer only for the tokens that the head reads: the first of each text, marked or masked ones",
    "folded": "no keys and values there for first tokens: their matrices are applied to the question and the answer",
    "cached": "the output of a frozen body once for each example, where no dropout acts in it",
    "dropout": "dropout masks from 16-bit words of a fast generator",
    "targets": "of texts that are written, the vocabulary's logits at the targets alone",
    "embeddings": "gradients of word embeddings in one lasting array, cleared where they were written",
    "fused": "attention of packed batches in one pass, in C that the machine compiles on first use",
    "products": "matrix products of linear layers by oneDNN, for a processor's widest registers",
    "memory": "memory that a step frees stays with the process, for the next one",
}
PART = 8  # examples of a padded batch that go through the model together when it is cut


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
        if not dropout_in_frozen_body and not extra_tokens and frozen_body.is_frozen(model):
            dropout.stop(frozen_body.parts(model))
        self.tricks = fitting(model, _named(tricks), extra_tokens, plain_attention, reads_first)
        self._library = writing.library_model(model)
        self._step = Step(dropout.Masks(seed, "dropout" in self.tricks), "fused" in self.tricks)
        self._is_decoder = "packed" in self.tricks and bool(decoders.attentions(model))
        allocation.keep("memory" in self.tricks)
        if self._is_decoder:
            decoders.pack(model, self._library, self._step, "read" in self.tricks)
        elif "packed" in self.tricks:
            encoders.pack(model, self._step, "read" in self.tricks, "folded" in self.tricks)
        if "cached" in self.tricks:
            self._frozen = frozen_body.FrozenBody(model, self._body_states)
        if "dropout" in self.tricks:
            dropout.replace(model, self._step.masks)
        if "products" in self.tricks:
            products.replace(model)
        if "embeddings" in self.tricks:
            embedding_gradients.keep(model)
        if activation_checkpointing:
            checkpointing.recompute_layers(model, self._step)

    @property
    def name(self) -> str:
        """The tricks at work, as records say it."""
        return "+".join(sorted(self.tricks)) or "plain"

    @property
    def largest_part(self) -> int | None:
        """Into parts of how many examples at the most batches of training are cut; None when it does not matter."""
        return PART if "cut" in self.tricks else None

    def see(self, tokens: Tokens, index: np.ndarray) -> None:
        """Do ahead what is done once for each of the examples numbered `index`, whatever their order will be."""
        if "cached" in self.tricks:
            self._frozen.see(tokens, tokens.texts(index))

    def begin_step(self, step: int) -> None:
        """Make room for a step, and seed its dropout masks: a resumed run draws those of an uninterrupted one."""
        allocation.settle()
        self._step.masks.begin(self.seed, step)

    def logits(self, tokens: Tokens, index: np.ndarray, read: np.ndarray | None = None) -> Tensor:
        """Return the logits of the texts numbered `index`, sorted by length, shape (texts, outputs).

        read: which of their tokens the head reads, shape (tokens,), booleans; then the shape is (tokens read, outputs).
        """
        if "packed" not in self.tricks:
            return self._padded_logits(tokens, index, read)
        if self._is_decoder:
            layout = Layout(tokens.lengths[index])
            states = self._decoder_states(layout, layout.lasts, tokens.packed(index)["input_ids"], firsts=True)
            return self._library.score(states)
        if "cached" in self.tricks:
            return self._frozen.logits(tokens, index)
        return self._packed_logits(tokens, index, read)

    def target_logits(self, tokens: Tokens, index: np.ndarray) -> Tensor:
        """Return the logits at each token of the examples' targets, shape (target tokens, vocabulary)."""
        if self._is_decoder:
            texts = writing.together(tokens, index)
            layout = Layout(np.array([len(ids) for ids, _ in texts]))
            read = np.concatenate([np.arange(first, len(ids)) + offset for (ids, first), offset in
                                   zip(texts, layout.offsets[:-1], strict=True)])  # fmt: skip
            states = self._decoder_states(layout, torch.from_numpy(read), np.concatenate([ids for ids, _ in texts]))
            return self._library.get_output_embeddings()(states)
        return writing.target_logits(self.model, tokens, index, self.extra_tokens, "targets" not in self.tricks)

    def states(self, ids: np.ndarray, read: np.ndarray) -> Tensor:
        """Return the body's last hidden states where `read` is true, shape (tokens read, width).

        ids: texts of one length, shape (texts, length). read: the same shape, booleans.
        """
        if "packed" not in self.tricks:
            inputs = self._tensors({"input_ids": ids, **self._positions(ids)})
            found = self.model.base_model(**inputs).last_hidden_state
            return found[torch.from_numpy(read).to(self.device)]
        layout, places = Layout(np.full(*ids.shape)), np.tile(np.arange(ids.shape[1]), len(ids))
        with self._carrying(layout, torch.from_numpy(np.flatnonzero(read))):
            inputs = self._packed_inputs(layout, ids.ravel(), places, np.zeros_like(places))
            return self.model.base_model(**inputs).last_hidden_state[0]

    def write(self, tokens: Tokens, index: np.ndarray) -> list[str]:
        """Return the texts that the model writes for the examples, in the way that the dataset asks for."""
        about = tokens.about
        length, beams = about["target_length"], about["beams"]
        found = writing.write(self.model, tokens, index, length, beams, self.extra_tokens)
        return self._tokenizer.batch_decode(found, skip_special_tokens=True)

    def _padded_logits(self, tokens: Tokens, index: np.ndarray, read: np.ndarray | None) -> Tensor:
        arrays = tokens.batch(index)
        if not arrays["token_type_ids"].any():
            del arrays["token_type_ids"]  # zeros are what every model takes by itself; some take no such argument
        if not self.extra_tokens:
            arrays |= self._positions(arrays["input_ids"])
        # Decoders look for the last token that is no padding.
        self._library.config.pad_token_id = _pad_apart(arrays, tokens.about["pad_id"])
        inputs = self._tensors(arrays)
        logits = _logits(self.model(**inputs))
        if read is None:
            return logits
        text = torch.cat([logits[:, :1], logits[:, 1 + self.extra_tokens :]], dim=1)
        return text[inputs["attention_mask"].bool()][torch.from_numpy(read).to(self.device)]

    def _packed_logits(self, tokens: Tokens, index: np.ndarray, read: np.ndarray | None) -> Tensor:
        layout, packed = Layout(tokens.lengths[index] + self.extra_tokens), tokens.packed(index)
        if read is None:
            with self._carrying(layout, layout.firsts, firsts=True):
                return self.model(**self._packed_inputs(layout, **packed)).logits
        within = packed["position_ids"]
        places = np.repeat(layout.offsets[:-1], tokens.lengths[index]) + within + self.extra_tokens * (within > 0)
        with self._carrying(layout, torch.from_numpy(places[read])):
            return _logits(self.model(**self._packed_inputs(layout, **packed)))[0]

    def _body_states(self, tokens: Tokens, index: np.ndarray) -> Tensor:
        """Return what the head reads of each example, shape (examples, 1, width), from the body alone."""
        embeddings, encoder = frozen_body.parts(self.model)
        layout = Layout(tokens.lengths[index])
        with self._carrying(layout, layout.firsts, firsts=True):
            return encoder(embeddings(**self._packed_inputs(layout, **tokens.packed(index))))[0]

    def _decoder_states(self, layout: Layout, read: Tensor, ids: np.ndarray, firsts: bool = False) -> Tensor:
        """Return the last hidden states of a decoder's tokens that are read, shape (tokens read, width)."""
        positions, read = np.concatenate([np.arange(length) for length in layout.lengths]), read.to(self.device)
        with self._carrying(layout, read, firsts):
            inputs = self._packed_inputs(layout, ids, positions, np.zeros_like(positions))
            del inputs["token_type_ids"]
            inputs |= {"attention_mask": decoders.everything(self.device), "use_cache": False}
            return self._library.base_model(**inputs).last_hidden_state[0, read]

    def _carrying(self, layout: Layout, read: Tensor, firsts: bool = False) -> AbstractContextManager:
        """Let the modules know which batch is on its way through the model."""
        return self._step.carrying(Packed(layout, read.to(self.device), firsts))

    def _packed_inputs(
        self, layout: Layout, input_ids: np.ndarray, position_ids: np.ndarray, token_type_ids: np.ndarray
    ) -> dict[str, Tensor]:
        """Return the model's inputs, each shape (1, tokens): texts, and a tail of tokens that are no text's first."""
        positions = self._first_position + np.pad(position_ids, (0, layout.tail), constant_values=1)
        ids, types = np.pad(input_ids, (0, layout.tail), mode="wrap"), np.pad(token_type_ids, (0, layout.tail))
        return self._tensors({"input_ids": ids[None], "position_ids": positions[None], "token_type_ids": types[None]})

    def _positions(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """Return the positions of texts' tokens where they must be given, each shape (texts, length)."""
        if not self._first_position:
            return {}
        # RoBERTa would count by what is padding, which a text may hold, too, and a masked token may be turned into.
        return {"position_ids": np.broadcast_to(np.arange(ids.shape[1]), ids.shape) + self._first_position}

    def _tensors(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}

    @cached_property
    def _first_position(self) -> int:
        return first_position(self.model)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        folder = self._library.config.name_or_path
        return AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True)


def _pad_apart(arrays: Mapping[str, np.ndarray], padding: int) -> int:
    """Pad a batch by a token that ends none of its texts, `padding` if that does not; return it."""
    ids, is_text = arrays["input_ids"], arrays["attention_mask"].astype(bool)
    ends = set(ids[np.arange(len(ids)), is_text.sum(axis=1) - 1].tolist())
    if padding in ends:
        padding = next(token for token in range(len(ends) + 1) if token not in ends)
        ids[~is_text] = padding
    return padding


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
