"""Shapes of decoders and of encoder-decoders: GPT-2, Llama, T5, BART."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peftstudy.errors import StudyError
from peftstudy.shapes import Shape, Stack

ENDLESS = 2**31
"""Positions of a model that counts how far tokens are from each other, with one number for all that are far."""


@dataclass(frozen=True)
class WriterShape(Shape):
    """The sizes of a model that writes texts.

    decoder_layers, decoder_intermediate: of the decoder, where `layers` are an encoder's.
    attention: the width of all heads together. keys: that of keys, and of values.
    gated: whether a second matrix multiplies the feed-forward's inner activations.
    relative: T5's rows of relative positions, a number for each head, in the first layer of each stack.
    has_output: whether the weights hold a vocabulary matrix beside the word embeddings. output: whether that is in use.
    """

    decoder_layers: int = 0
    decoder_intermediate: int = 0
    attention: int = 0
    keys: int = 0
    gated: bool = False
    has_output: bool = False
    output: bool = False

    @property
    def biased(self) -> bool:
        return self.family in ("gpt2", "bart")

    @property
    def stacks(self) -> list[Stack]:
        own = Stack(self.about.layers, self.layers, self._matrices(self.intermediate))
        if not self.decoder_layers:
            return [own]
        crossed = self._matrices(self.decoder_intermediate)
        inner = self.about.decoder_places
        sizes = {
            target: {place: next(iter(own.values())) for place in inner[target]}
            if len(own) == 1
            else {path.replace("layer.1", "layer.2"): size for path, size in own.items()}
            for target, own in crossed.items()
        }
        return [own, Stack(self.about.decoder, self.decoder_layers, sizes)]

    def _matrices(self, inner: int) -> dict[str, dict[str, tuple[int, int]]]:
        hidden, places = self.hidden, self.about.places
        if self.family == "gpt2":
            fused = {places["query"]: (hidden, 3 * hidden)}
            sizes = dict.fromkeys(("query", "key", "value"), fused)
        else:
            sizes = {"query": {places["query"]: (hidden, self.attention)}}
            sizes |= {name: {places[name]: (hidden, self.keys)} for name in ("key", "value")}
        sizes["attention-output"] = {places["attention-output"]: (self.attention, hidden)}
        first = [places["intermediate"]]
        if self.gated:
            wi = places["intermediate"]
            first = [self.about.gate, wi] if self.about.gate else [f"{wi}_0", f"{wi}_1"]
        return sizes | {
            "intermediate": {place: (hidden, inner) for place in first},
            "output": {places["output"]: (inner, hidden)},
        }

    @property
    def matrices(self) -> Mapping[str, tuple[int, int]]:
        return self.stacks[0].matrices

    @property
    def _norm(self) -> int:
        """The parameters of a layer norm."""
        return (1 + self.biased) * self.hidden

    def _norms_of(self, stack: Stack) -> int:
        """The layer norms of a layer: one for attention, one for what it attends to elsewhere, one behind."""
        return 2 + (stack.layers == self.about.decoder)

    @property
    def norms(self) -> int:
        # BART's embeddings have one in each stack; the others have one behind their last layer.
        return sum(self._norms_of(stack) * stack.count + 1 for stack in self.stacks)

    @property
    def norm_parameters(self) -> int:
        return self.norms * self._norm

    @property
    def biases(self) -> int:
        if not self.biased:
            return 0
        of_matrices = sum(outputs for stack in self.stacks for _, outputs in stack.sizes())
        return of_matrices + self.norms * self.hidden

    @property
    def embedding_parameters(self) -> int:
        tables = self.position_table * (self.positions + self.table_offset) * len(self.stacks)
        norms = len(self.stacks) * self._norm if self.family == "bart" else 0
        return (self.vocabulary + tables) * self.hidden + norms

    @property
    def table_offset(self) -> int:
        """Rows of BART's position tables before the first token's."""
        return 2 if self.family == "bart" else 0

    def parameters_of(self, layers) -> int:
        """Return the parameters of some layers, by number from 0, a decoder's behind its encoder's."""
        numbers, total, first = set(layers), 0, 0
        for stack in self.stacks:
            own = {number - first for number in numbers if first <= number < first + stack.count}
            matrices = sum((inputs + self.biased) * outputs for inputs, outputs in stack.matrices.values())
            total += len(own) * (matrices + self._norms_of(stack) * self._norm)
            total += (0 in own) * self.relative * self.heads
            first += stack.count
        return total

    @property
    def attentions(self) -> list[int]:
        return [self.layers, *[self.decoder_layers] * 2] if self.decoder_layers else [self.layers]

    @property
    def key_width(self) -> int:
        return self.keys

    @property
    def all_layers(self) -> int:
        return self.layers + self.decoder_layers

    @property
    def other_parameters(self) -> int:
        last = 0 if self.family == "bart" else len(self.stacks) * self._norm
        return last + self.output * self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.embedding_parameters + self.parameters_of(range(self.all_layers)) + self.other_parameters


def writer_shape(family: str, sizes: list[int], config: Mapping[str, Any], has_output: bool, where: str) -> WriterShape:
    """Return the shape of a decoder's or encoder-decoder's configuration; sizes: those of every Shape, in order."""
    more = {"gpt2": _gpt2, "llama": _llama, "t5": _t5, "bart": _bart}[family](config, where)
    if family == "t5":
        sizes = [*sizes[:5], ENDLESS, *sizes[6:]]
    return WriterShape(family, *sizes, **{"attention": sizes[0], "keys": sizes[0], **more}, has_output=has_output)


def _gpt2(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    _refuse(config, where, add_cross_attention=False)
    return {}


def _llama(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    _refuse(config, where, attention_bias=False, mlp_bias=False)
    heads = config["num_attention_heads"]
    depth = config.get("head_dim") or config["hidden_size"] // heads
    keys = config.get("num_key_value_heads") or heads
    return {"position_table": False, "attention": heads * depth, "keys": keys * depth, "gated": True}


def _t5(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    width = config["num_heads"] * config.get("d_kv", 64)
    return {
        "position_table": False,
        "relative": config.get("relative_attention_num_buckets", 32),
        "decoder_layers": config.get("num_decoder_layers") or config["num_layers"],
        "decoder_intermediate": config["d_ff"],
        "attention": width,
        "keys": width,
        "gated": str(config.get("feed_forward_proj", "relu")).startswith("gated"),
    }


def _bart(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    _refuse(config, where, normalize_before=False, add_final_layer_norm=False)
    return {
        "decoder_layers": config.get("decoder_layers", 12),
        "decoder_intermediate": config.get("decoder_ffn_dim", 4096),
    }


def _refuse(config: Mapping[str, Any], where: str, **known: Any) -> None:
    for name, value in known.items():
        if config.get(name, value) != value:
            raise StudyError(f"{where}: {name} is {config[name]!r}; only {value!r} is known here.")
