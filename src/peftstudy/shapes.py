"""Shapes: the sizes of an encoder and the parameters that follow, read from its folder without torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftstudy.errors import StudyError, unknown
from peftstudy.files import read_json

# Rows of the position table before the first token's: RoBERTa counts from its padding id, 1, plus one.
POSITION_OFFSETS = {"bert": 0, "roberta": 2}


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder, and the parameters that follow from them.

    positions: those that tokens can use.
    pooler: whether its weights hold the pooler that BERT classifies from; without, it is fresh, a part of the head.
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

    @property
    def position_offset(self) -> int:
        return POSITION_OFFSETS[self.family]

    @property
    def embedding(self) -> int:
        """The width of the word embeddings."""
        return self.hidden

    @property
    def embedding_parameters(self) -> int:
        rows = self.vocabulary + self.positions + self.position_offset + self.token_types
        return (rows + 2) * self.hidden

    @property
    def layer_parameters(self) -> int:
        attention = 4 * (self.hidden**2 + self.hidden)
        feed_forward = 2 * self.hidden * self.intermediate + self.intermediate + self.hidden
        return attention + feed_forward + 4 * self.hidden

    @property
    def pooler_parameters(self) -> int:
        return self.pooler * (self.hidden**2 + self.hidden)

    @property
    def parameters(self) -> int:
        return self.embedding_parameters + self.layers * self.layer_parameters + self.pooler_parameters


def shape_of(config: Mapping[str, Any], pooler: bool = False, where: str = "config.json") -> Shape:
    """Return the shape that a Hugging Face configuration describes; StudyError for a missing key or another family."""
    family = config.get("model_type")
    if family not in POSITION_OFFSETS:
        raise unknown(where, "model_type", str(family), POSITION_OFFSETS)
    names = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "vocab_size",
             "max_position_embeddings", "type_vocab_size")  # fmt: skip
    for name in names:
        if not isinstance(config.get(name), int) or config[name] < 1:
            raise StudyError(f"{where}: {name} is {config.get(name)!r}; a whole number above 0 is needed.")
    hidden, layers, intermediate, heads, vocabulary, positions, types = (config[name] for name in names)
    positions -= POSITION_OFFSETS[family]
    return Shape(family, hidden, layers, intermediate, heads, vocabulary, positions, types, pooler)


def read_shape(folder: Path, family: str | None = None) -> Shape:
    """Return the shape of the backbone in a folder, from config.json and the names in its weights.

    family: what it is when config.json does not say, as in checkpoints of old.
    """
    folder = Path(folder)
    config = {"model_type": family} | read_json(folder / "config.json")
    pooled = any(name.removeprefix("bert.") == "pooler.dense.weight" for name in read_tensors(folder))
    return shape_of(config, config.get("model_type") == "bert" and pooled, f"{folder}/config.json")


def read_tensors(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the stored tensors by name, from the headers of the safetensors files.

    Raises StudyError when there are none, or when a file is not as long as its header says.
    """
    return {name: shape for path in weight_files(folder) for name, shape in _header(path).items()}


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


def _header(path: Path) -> dict[str, tuple[int, ...]]:
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
