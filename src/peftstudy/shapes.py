"""Shapes: the sizes of a backbone and the parameters that follow, read from its folder without torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftstudy.errors import StudyError, unknown
from peftstudy.families import FAMILIES, SIZES, Family
from peftstudy.files import read_json


@dataclass(frozen=True)
class Stack:
    """Equal layers on top of each other.

    layers: the path of their list within the body. targets: the paths of a layer's matrices by the names of
    projections.TARGETS, with their inputs and outputs.
    """

    layers: str
    count: int
    targets: Mapping[str, Mapping[str, tuple[int, int]]]

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """The inputs and outputs of the matrices of a layer, by place."""
        return {place: size for sizes in self.targets.values() for place, size in sizes.items()}

    def of(self, targets: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return those matrices of a layer that some targets name."""
        return {place: size for target in targets for place, size in self.targets[target].items()}

    def sizes(self, targets: Iterable[str] | None = None) -> list[tuple[int, int]]:
        """Return inputs and outputs of the matrices of all layers, of some targets or of all."""
        return [*(self.matrices if targets is None else self.of(targets)).values()] * self.count


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder, and the parameters that follow from them.

    family: one of families.FAMILIES.
    positions: those that tokens can use.
    pooler: whether its weights hold what a classifier reads through (BERT's pooler, ModernBERT's head); without,
    that is fresh, a part of the head.
    narrow: the width of the word embeddings where it is not that of the hidden states.
    position_table: whether absolute positions are embedded. relative: rows of relative ones.
    """

    family: str
    hidden: int
    layers: int
    intermediate: int
    heads: int
    vocabulary: int
    positions: int
    token_types: int
    pooler: bool = False
    narrow: int | None = None
    position_table: bool = True
    relative: int = 0

    @property
    def about(self) -> Family:
        return FAMILIES[self.family]

    @property
    def position_offset(self) -> int:
        return self.about.position_offset

    @property
    def embedding(self) -> int:
        """The width of the word embeddings."""
        return self.narrow or self.hidden

    @property
    def biased(self) -> bool:
        """Whether matrices and layer norms have biases."""
        return self.family != "modernbert"

    @property
    def matrices(self) -> Mapping[str, tuple[int, int]]:
        """The inputs and outputs of the matrices of a layer, by place."""
        hidden, places = self.hidden, self.about.places
        sizes = {places[name]: (hidden, hidden) for name in ("query", "key", "value", "attention-output")}
        inner = self.intermediate
        if self.family == "modernbert":  # gated: twice as much goes in
            sizes |= {places["query"]: (hidden, 3 * hidden), places["intermediate"]: (hidden, 2 * inner)}
        else:
            sizes |= {places["intermediate"]: (hidden, inner)}
        return sizes | {places["output"]: (inner, hidden)}

    @property
    def stacks(self) -> list[Stack]:
        """The layers, with the matrices by the names of targets."""
        targets = {name: {place: self.matrices[place]} for name, place in self.about.places.items()}
        return [Stack(self.about.layers, self.layers, targets)]

    @property
    def all_layers(self) -> int:
        """The number of layers, a decoder's and its encoder's together."""
        return self.layers

    @property
    def attentions(self) -> list[int]:
        """The numbers of layers with one kind of attention each: a decoder may attend to its encoder, too."""
        return [self.layers]

    @property
    def key_width(self) -> int:
        """The width of keys, and of values."""
        return self.hidden

    @property
    def norms(self) -> int:
        """The number of layer norms that are as wide as the hidden states."""
        # ModernBERT's first layer has one less, and there is one behind the last layer.
        return 2 * self.layers + bool(self.relative)

    @property
    def norm_parameters(self) -> int:
        return (1 + self.biased) * (self.embedding + self.norms * self.hidden)

    @property
    def biases(self) -> int:
        """The number of single biases of the body, without a pooler's."""
        if not self.biased:
            return 0
        of_matrices = self.layers * sum(outputs for _, outputs in self.matrices.values())
        return of_matrices + self.embedding + self.norms * self.hidden + bool(self.narrow) * self.hidden

    @property
    def embedding_parameters(self) -> int:
        rows = self.vocabulary + self.position_table * (self.positions + self.position_offset) + self.token_types
        return (rows + 1 + self.biased) * self.embedding

    @property
    def layer_parameters(self) -> int:
        """The parameters of a layer; of ModernBERT's first one, a layer norm less."""
        matrices = sum((inputs + self.biased) * outputs for inputs, outputs in self.matrices.values())
        return matrices + 2 * (1 + self.biased) * self.hidden

    def parameters_of(self, layers: Iterable[int]) -> int:
        """Return the parameters of some layers, by number from 0."""
        numbers = set(layers)
        return len(numbers) * self.layer_parameters - (self.family == "modernbert" and 0 in numbers) * self.hidden

    @property
    def pooler_parameters(self) -> int:
        return self.pooler * (self.hidden**2 + self.hidden)  # a matrix, and its bias or a layer norm

    @property
    def other_parameters(self) -> int:
        """What belongs neither to the embeddings, nor to the layers, nor to a pooler."""
        projection = (self.embedding + 1) * self.hidden if self.narrow else 0
        relative = (self.relative + 2) * self.hidden if self.relative else 0
        return projection + relative + (self.family == "modernbert") * self.hidden

    @property
    def parameters(self) -> int:
        layers = self.parameters_of(range(self.layers))
        return self.embedding_parameters + layers + self.pooler_parameters + self.other_parameters


def shape_of(
    config: Mapping[str, Any], pooler: bool = False, where: str = "config.json", has_output: bool = False
) -> Shape:
    """Return the shape that a Hugging Face configuration describes.

    has_output: whether the weights hold a vocabulary matrix that is not the word embeddings'.

    Raises StudyError for a missing key, another family, or a variant of one whose parameters are not known here.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise unknown(where, "model_type", str(family), FAMILIES)
    about, sizes = FAMILIES[family], []
    if family == "gpt2" and config.get("n_inner") is None and isinstance(config.get("n_embd"), int):
        config = {**config, "n_inner": 4 * config["n_embd"]}  # what the configuration leaves open means this
    for size in SIZES:
        name = about.spelt.get(size, size)
        least = 0 if family == "deberta-v2" and size == "type_vocab_size" else 1
        if size in about.without:
            sizes.append(0)
        elif not isinstance(config.get(name), int) or config[name] < least:
            raise StudyError(f"{where}: {name} is {config.get(name)!r}; a whole number above {least - 1} is needed.")
        else:
            sizes.append(config[name])
    sizes[5] -= about.position_offset
    if about.writes:
        from peftstudy.writer_shapes import writer_shape

        return writer_shape(family, sizes, config, has_output, where)
    more = {"electra": _electra, "deberta-v2": _deberta, "modernbert": _modernbert}.get(family, lambda *_: {})
    return Shape(family, *sizes, pooler, **more(config, where))


def _electra(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    width = config.get("embedding_size", 128)
    return {"narrow": width if width != config["hidden_size"] else None}


def _deberta(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    relative = config.get("relative_attention", False)
    known = {"conv_kernel_size": (0, None), "embedding_size": (config["hidden_size"], None)}
    if relative:
        known |= {"share_att_key": (True,), "norm_rel_ebd": ("layer_norm",)}
    for name, values in known.items():
        if config.get(name) not in values:
            raise StudyError(f"{where}: {name} is {config.get(name)!r}; only {values[0]!r} is known here.")
    buckets = config.get("position_buckets", -1)
    longest = config.get("max_relative_positions", -1)
    rows = buckets if buckets > 0 else longest if longest > 0 else config["max_position_embeddings"]
    return {"position_table": config.get("position_biased_input", True), "relative": 2 * rows * bool(relative)}


def _modernbert(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name in ("attention_bias", "mlp_bias", "norm_bias"):
        if config.get(name):
            raise StudyError(f"{where}: {name} is true; only ModernBERT without biases is known here.")
    return {"position_table": False}


def planned_shape(family: str, sizes: Mapping[str, Any], vocabulary: int) -> Shape:
    """Return the shape of a backbone that is to be pre-trained with these sizes, by BERT's names."""
    return shape_of(FAMILIES[family].configuration(sizes) | {"model_type": family, "vocab_size": vocabulary})


def read_shape(folder: Path, family: str | None = None) -> Shape:
    """Return the shape of the backbone in a folder, from config.json and the names in its weights.

    family: what it is when config.json does not say, as in checkpoints of old.
    """
    folder = Path(folder)
    config = {"model_type": family} | read_json(folder / "config.json")
    names = {"bert": ("pooler.dense.weight", "bert.pooler.dense.weight"), "modernbert": ("head.dense.weight",)}
    pooled = not read_tensors(folder).keys().isdisjoint(names.get(config.get("model_type"), ()))
    ties = config.get("tie_word_embeddings", True)
    untied = not ties and "lm_head.weight" in read_tensors(folder)
    return shape_of(config, pooled, f"{folder}/config.json", untied)


def read_tensors(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the stored tensors by name, from the headers of the safetensors files.

    Raises StudyError when there are none, or when a file is not as long as its header says.
    """
    return {name: shape for path in weight_files(folder) for name, shape in tensors_of(path).items()}


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that hold a folder's weights, in order; a missing one is a StudyError."""
    folder = Path(folder)
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        paths = [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
        for path in paths:
            if path.name != Path(path).name or not path.is_file():
                raise StudyError(f"{path}: no such file, though {index.name} names it.")
        return paths
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    found = f"only {pickled[0]}, a format that can run code" if pickled else "none"
    raise StudyError(f"{folder}: weights must be in model.safetensors; found {found}.")


def tensors_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in one safetensors file, as read_tensors does of a folder's."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            raise StudyError(f"{path}: truncated within its header ({size} bytes); fetch it again.")
        try:
            header = json.loads(file.read(length))
        except ValueError:
            raise StudyError(f"{path}: not a safetensors file (its header is not JSON).") from None
    header.pop("__metadata__", None)
    whole = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if size != whole:
        raise StudyError(f"{path}: {size} bytes; its header says {whole}. Fetch it again.")
    return {name: tuple(entry["shape"]) for name, entry in header.items()}
