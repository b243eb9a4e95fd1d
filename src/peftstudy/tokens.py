"""splits -> tokens: each dataset once for each tokenizer, memory-mapped, shared by all runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from peftstudy import ends, files, tasks
from peftstudy.errors import StudyError
from peftstudy.shapes import read_shape

CHUNK = 4096  # texts encoded at a time: bounds the memory, not the result
FILES = ("input_ids.npy", "offsets.npy", "second.npy", "labels.npy")
REFERENCES = "references.parquet"


@dataclass(frozen=True)
class Tokens:
    """The encoded examples of one dataset, without padding.

    input_ids: all texts one after the other, shape (tokens,).
    offsets: where each text begins, and the end of the last, shape (texts + 1,).
    second: where the second text of a pair begins within its text; the text's length
    where there is none or the backbone does not tell the two apart, shape (texts,).
    labels: as the task has them; a class number or a value of each example, shape (examples,).
    about: the classes, padding id, longest text, sha256 and truncation figures.
    arrays: what the task adds. `texts`, shape (examples + 1,), is which text each example begins
    with; where it is not there, each example is one text. `targets` and `target_ids`: see tasks.generation.
    references: what the task compares with that is no array, a row an example.
    """

    input_ids: np.ndarray
    offsets: np.ndarray
    second: np.ndarray
    labels: np.ndarray
    about: dict[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    references: pa.Table | None = None

    @cached_property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each text, shape (texts,)."""
        return np.diff(self.offsets)

    @cached_property
    def sizes(self) -> np.ndarray:
        """The number of tokens of each example, shape (examples,)."""
        if "targets" in self.arrays:
            return self.lengths + np.diff(self.arrays["targets"])
        return np.diff(self.offsets[self.arrays["texts"]]) if "texts" in self.arrays else self.lengths

    def texts(self, index: np.ndarray) -> np.ndarray:
        """Return the numbers of the texts of the examples numbered `index`, in order."""
        if "texts" not in self.arrays:
            return index
        return joined(self.arrays["texts"], index)

    def batch(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return the texts numbered `index`, padded to the longest of them.

        Returns input_ids, attention_mask, token_type_ids, each shape (len(index), longest), int64.
        """
        packed, lengths = self.packed(index), self.lengths[index]
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, self.about["pad_id"], dtype=np.int64)
        types = np.zeros(mask.shape, dtype=np.int64)
        ids[mask], types[mask] = packed["input_ids"], packed["token_type_ids"]
        return {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": types}

    def packed(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return the texts numbered `index` one after the other.

        Returns input_ids, token_type_ids and position_ids (from 0 in each text), each shape (tokens,), int64.
        """
        lengths = self.lengths[index]
        ids = [self.input_ids[begin : begin + n] for begin, n in zip(self.offsets[index], lengths, strict=True)]
        positions = np.concatenate([np.arange(n) for n in lengths])
        return {
            "input_ids": np.concatenate(ids).astype(np.int64),
            "token_type_ids": (positions >= np.repeat(self.second[index], lengths)).astype(np.int64),
            "position_ids": positions,
        }


def joined(offsets: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the places of some pieces one after the other.

    offsets: where each piece begins, and the end of the last.

    >>> joined(np.array([0, 2, 5]), np.array([1, 0])).tolist()
    [2, 3, 4, 0, 1]
    """
    return np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in index] or [np.arange(0)])


def load(folder: Path) -> Tokens:
    """Open what `write` left, its checksums compared, mapping the arrays into memory instead of keeping them there."""
    about = files.read_json(folder / "tokens.json")
    files.check_entries(folder, about["files"])
    named = [entry["name"] for entry in about["files"]]
    arrays = {n.removesuffix(".npy"): np.load(folder / n, mmap_mode="r") for n in named if n.endswith(".npy")}
    ids, *rest = (arrays.pop(name.removesuffix(".npy")) for name in FILES)
    references = parquet.read_table(folder / REFERENCES) if REFERENCES in named else None
    return Tokens(ids, *map(np.asarray, rest), about, {k: np.asarray(v) for k, v in arrays.items()}, references)


def encode(examples: pd.DataFrame, tokenizer: Any, max_length: int) -> Tokens:
    """Encode each example with the backbone's own special tokens, cutting it at `max_length` tokens.

    tokenizer: a fast Hugging Face tokenizer. Pairs are cut longest text first.
    """
    labels = examples["label"].to_numpy()
    kind = np.float32 if np.issubdtype(labels.dtype, np.floating) else np.int32
    return gather(
        encodings(rows(examples, tokenizer), tokenizer, max_length), tokenizer, max_length, labels.astype(kind)
    )


def rows(examples: pd.DataFrame, tokenizer: Any) -> list[str] | list[tuple[str, str]]:
    """Return the texts of examples, or pairs; where a tokenizer sets no mark between two texts, a line's end does."""
    if "text_pair" not in examples:
        return examples["text"].tolist()
    pairs = zip(examples["text"], examples["text_pair"], strict=True)
    if tokenizer.num_special_tokens_to_add(pair=True):
        return list(pairs)
    return [f"{first}\n{second}" for first, second in pairs]


def encodings(
    rows: Sequence,
    tokenizer: Any,
    max_length: int,
    offsets: bool = False,
    stride: int | None = None,
    special: bool = True,
) -> Iterator[Any]:
    """Yield the encoding of each text or pair, without padding.

    offsets: whether the characters that a token stands for are wanted, too; that takes longer.
    stride: with it, a pair's second text is cut into windows that share so many tokens; the encoding is that
    of the first, and holds the others. Without, what is too long is cut, of pairs the longer text first.
    special: whether the tokenizer's special tokens are added.
    """
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True  # what looks like a mark within a text is text
    backend.no_padding()
    if stride is None:
        backend.enable_truncation(max_length, strategy="longest_first")
    else:
        backend.enable_truncation(max_length, stride=stride, strategy="only_second")
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        encode = backend.encode_batch if offsets else backend.encode_batch_fast
        yield from encode(chunk, add_special_tokens=special)


def gather(
    encoded: Iterable[Any],
    tokenizer: Any,
    max_length: int,
    labels: np.ndarray,
) -> Tokens:
    """Return the encodings of texts as Tokens. What is overflowing in them is lost, and counted."""
    tells_apart = "token_type_ids" in tokenizer.model_input_names
    size = tokenizer.vocab_size + len(tokenizer.get_added_vocab())
    kind = np.uint16 if size <= 2**16 else np.int32
    ids, lengths, second, truncated = [], [], [], []
    for encoding in encoded:
        ids.append(np.array(encoding.ids, kind))  # as Python's own numbers they take some forty bytes each
        length = len(ids[-1])
        lengths.append(length)
        types = encoding.type_ids if tells_apart else ()
        second.append(types.index(1) if 1 in types else length)
        truncated.append(bool(encoding.overflowing))
    about = {
        "examples": len(lengths),
        "max_length": max_length,
        "mean_tokens": float(np.mean(lengths)),
        "longest": int(max(lengths)),
        "truncated_share": float(np.mean(truncated)),
        "pad_id": int(tokenizer.pad_token_id),
    }
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Tokens(np.concatenate(ids), offsets, np.array(second, np.int32), labels, about)


def write(examples: Path, backbone: Path, max_length: int, output: Path) -> None:
    """Encode the examples file with the tokenizer in a backbone's folder; write the arrays and tokens.json."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(backbone, use_fast=True, local_files_only=True)
    family = read_shape(backbone).about
    if family.writes:
        # Some name no padding token, which is masked anyway; and none of them tells the texts of a pair apart.
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    if tokenizer.pad_token_id is None:
        raise StudyError(f"{backbone}: the tokenizer has no padding token; add one to its tokenizer_config.json.")
    description = files.read_json(examples.with_suffix(".json"))
    task, options = tasks.create(description["task"]), description.get("options", {})
    if task.writes:
        ends.refuse_unlearned(backbone, tokenizer)
    tokens = task.encode(pd.read_parquet(examples), tokenizer, max_length, **options)
    arrays = dict(zip(FILES, (tokens.input_ids, tokens.offsets, tokens.second, tokens.labels), strict=True))
    arrays |= {f"{name}.npy": array for name, array in tokens.arrays.items()}
    with files.whole_folder(output) as folder:
        for name, array in arrays.items():
            np.save(folder / name, array)
        named = list(arrays)
        if tokens.references is not None:
            parquet.write_table(tokens.references, folder / REFERENCES, compression="zstd")
            named.append(REFERENCES)
        about = tokens.about | {"labels": description["labels"]}
        about["files"] = [files.file_entry(folder / name) for name in named]
        # What is in no array, and runs depend on: names that a prompt may start as, labels that say what an entity is,
        # how texts are written.
        beside = [*description.get("names", ()), *(about["labels"] if task.words else ())]
        written = {key: about[key] for key in ("beams", "end_id", "target_length") if key in about}
        about["sha256"] = files.sha256_json([*about["files"], *beside, *([written] if written else ())])
        files.write_json(folder / "tokens.json", about)
