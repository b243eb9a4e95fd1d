"""splits -> tokens: each dataset once for each tokenizer, memory-mapped, shared by all runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from peftstudy import files
from peftstudy.errors import StudyError

CHUNK = 4096  # examples encoded at a time: bounds the memory, not the result
FILES = ("input_ids.npy", "offsets.npy", "second.npy", "labels.npy")


@dataclass(frozen=True)
class Tokens:
    """The encoded examples of one dataset, without padding.

    input_ids: all examples one after the other, shape (tokens,).
    offsets: where each example begins, and the end of the last, shape (examples + 1,).
    second: where the second text of a pair begins within its example; the example's length
    where there is none or the backbone does not tell the two apart, shape (examples,).
    labels: class numbers, shape (examples,).
    about: number of classes, padding id, longest example, sha256 and truncation figures.
    """

    input_ids: np.ndarray
    offsets: np.ndarray
    second: np.ndarray
    labels: np.ndarray
    about: dict[str, Any]

    @cached_property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each example, shape (examples,)."""
        return np.diff(self.offsets)

    def batch(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return the examples numbered `index`, padded to the longest of them.

        Returns input_ids, attention_mask, token_type_ids, each shape (len(index), longest), int64.
        """
        packed, lengths = self.packed(index), self.lengths[index]
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, self.about["pad_id"], dtype=np.int64)
        types = np.zeros(mask.shape, dtype=np.int64)
        ids[mask], types[mask] = packed["input_ids"], packed["token_type_ids"]
        return {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": types}

    def packed(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return the examples numbered `index` one after the other.

        Returns input_ids, token_type_ids and position_ids (from 0 in each example), each shape (tokens,), int64.
        """
        lengths = self.lengths[index]
        ids = [self.input_ids[begin : begin + n] for begin, n in zip(self.offsets[index], lengths, strict=True)]
        positions = np.concatenate([np.arange(n) for n in lengths])
        return {
            "input_ids": np.concatenate(ids).astype(np.int64),
            "token_type_ids": (positions >= np.repeat(self.second[index], lengths)).astype(np.int64),
            "position_ids": positions,
        }


def load(folder: Path) -> Tokens:
    """Open what `write` left, mapping the arrays into memory instead of reading them."""
    about = files.read_json(folder / "tokens.json")
    arrays = []
    for name in FILES:
        try:
            arrays.append(np.load(folder / name, mmap_mode="r"))
        except (OSError, ValueError) as error:
            raise StudyError(
                f"{folder / name}: not a whole array ({error}); delete {folder} to make it again."
            ) from None
    return Tokens(arrays[0], np.asarray(arrays[1]), np.asarray(arrays[2]), np.asarray(arrays[3]), about)


def encode(examples: pd.DataFrame, tokenizer: Any, max_length: int) -> Tokens:
    """Encode each example with the backbone's own special tokens, cutting it at `max_length` tokens.

    tokenizer: a fast Hugging Face tokenizer. Pairs are cut longest text first.
    """
    backend, tells_apart = tokenizer.backend_tokenizer, "token_type_ids" in tokenizer.model_input_names
    backend.no_padding()
    backend.enable_truncation(max_length, strategy="longest_first")
    ids, lengths, second, truncated = [], [], [], []
    for encoding in _encodings(examples, backend):
        length = len(encoding.ids)
        ids.extend(encoding.ids)
        lengths.append(length)
        types = encoding.type_ids if tells_apart else ()
        second.append(types.index(1) if 1 in types else length)
        truncated.append(bool(encoding.overflowing))
    size = tokenizer.vocab_size + len(tokenizer.get_added_vocab())
    input_ids = np.array(ids, dtype=np.uint16 if size <= 2**16 else np.int32)
    about = {
        "examples": len(lengths),
        "max_length": max_length,
        "mean_tokens": float(np.mean(lengths)),
        "longest": int(max(lengths)),
        "truncated_share": float(np.mean(truncated)),
        "pad_id": int(tokenizer.pad_token_id),
    }
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Tokens(input_ids, offsets, np.array(second, np.int32), examples["label"].to_numpy(np.int32), about)


def _encodings(examples: pd.DataFrame, backend: Any) -> Iterator[Any]:
    columns = [examples[name].tolist() for name in ("text", "text_pair") if name in examples]
    rows = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
    for start in range(0, len(rows), CHUNK):
        yield from backend.encode_batch_fast(rows[start : start + CHUNK])


def write(examples: Path, backbone: Path, max_length: int, output: Path) -> None:
    """Encode the examples file with the tokenizer in a backbone's folder; write `FILES` and tokens.json."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(backbone, use_fast=True, local_files_only=True)
    if tokenizer.pad_token_id is None:
        raise StudyError(f"{backbone}: the tokenizer has no padding token; add one to its tokenizer_config.json.")
    tokens = encode(pd.read_parquet(examples), tokenizer, max_length)
    description = files.read_json(examples.with_suffix(".json"))
    for name, array in zip(FILES, (tokens.input_ids, tokens.offsets, tokens.second, tokens.labels), strict=True):
        with files.whole(output / name) as temporary, temporary.open("wb") as file:
            np.save(file, array)
    about = tokens.about | {"labels": description["labels"]}
    about["files"] = [files.file_entry(output / name) for name in FILES]
    about["sha256"] = files.sha256_json(about["files"])
    files.write_json(output / "tokens.json", about)
