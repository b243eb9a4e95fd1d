"""The text that a backbone is pre-trained on, and the tokenizer that is trained on it."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from peftstudy.errors import StudyError
from peftstudy.families import WRITERS

ID = "id"
"""The column by which what is not a text is left out: of views of docstrings, the definitions."""
ALPHABET = 500  # letters, the most frequent ones, of which words are made; words with others are unknown


def fold(text: str | Iterable[str]) -> str:
    """Return a text, or a list of words, with its white space folded: what two copies of a text have in common."""
    return " ".join((text if isinstance(text, str) else " ".join(text)).split())


def _folded(value: Any) -> str:
    """Return the folded text of a cell, nothing for an empty one; what is no text or list of words is written out."""
    if isinstance(value, list | np.ndarray):
        return fold(str(word) for word in value if word is not None)
    return "" if pd.isna(value) else fold(str(value))


def read_corpus(
    tables: Sequence[Path], columns: Sequence[str], exclusions: Iterable[tuple[Path, str, str]]
) -> tuple[list[str], dict[str, int]]:
    """Return a corpus' texts, white space folded, in the tables' order, without empty, repeated and excluded ones.

    tables, columns: the sources' tables and the column of each that holds the text.
    exclusions: a path, its column of texts that must stay out, and the corpus' own column that is
    compared with them beside the text, where a table has it (see study.Study.exclusions).
    Returns the texts and the number left out by reason.
    """
    banned: dict[str, set[str]] = defaultdict(set)
    for path, column, own in exclusions:
        found = pd.read_parquet(path, columns=[column])[column].map(_folded)
        of_several = own == ID and column != ID  # a group of examples names all that they show
        banned[own].update(found.str.split().explode() if of_several else found)
    of_texts = set().union(*(found for own, found in banned.items() if own != ID)) - {""}
    texts, seen, left_out = [], set(), {"empty": 0, "repeated": 0, "excluded": 0}
    for path, column in zip(tables, columns, strict=True):
        table = pd.read_parquet(path)
        if column not in table:
            raise StudyError(f"{path}: no column {column!r} for pre-training (known: {', '.join(table.columns)}).")
        folds = {name: table[name].map(_folded) for name in {column} | (banned.keys() & set(table.columns))}
        is_banned = np.any([key.isin(banned[ID] if own == ID else of_texts) for own, key in folds.items()], axis=0)
        for folded, out in zip(folds[column], is_banned, strict=True):
            reason = "excluded" if out else "empty" if not folded else "repeated" if folded in seen else None
            if reason:
                left_out[reason] += 1
            else:
                seen.add(folded)
                texts.append(folded)
    if not texts:
        raise StudyError(f"{', '.join(map(str, tables))}: no text is left for pre-training; drop an exclusion.")
    return texts, left_out


def train_tokenizer(family: str, texts: list[str], vocabulary: int, positions: int) -> Any:
    """Train the family's own kind of tokenizer on the texts; return it as a fast Hugging Face tokenizer.

    roberta, modernbert, and families that write: byte-level BPE (Liu et al., 2019; Radford et al., 2019), which is not
    T5's own, a unigram model. All others: lower-cased WordPiece (Devlin et al., 2019), which is not DeBERTa's own, a
    unigram model.
    positions: the longest input in tokens. Raises StudyError when the texts have too few words for
    the vocabulary, or the vocabulary has no room for bytes and marks.
    """
    if family in WRITERS:
        tokenizer = _writers_bpe(texts, vocabulary, family)
    else:
        train = _byte_level_bpe if family in BYTE_LEVEL else _wordpiece
        tokenizer = train(texts, vocabulary, family)
    found = tokenizer.backend_tokenizer.get_vocab_size()
    if found > vocabulary:
        raise StudyError(
            f"pretrain.tokenizer.vocabulary: {vocabulary} asked, but bytes and marks alone are {found}; ask for more."
        )
    if found < vocabulary:
        raise StudyError(
            f"pretrain.tokenizer.vocabulary: {vocabulary} asked, but the corpus has text for {found}; ask for fewer."
        )
    tokenizer.model_max_length = positions
    return tokenizer


def _wordpiece(texts: list[str], vocabulary: int, family: str) -> Any:
    from tokenizers.implementations import BertWordPieceTokenizer
    from transformers import BertTokenizerFast, DistilBertTokenizerFast

    trainer = BertWordPieceTokenizer(lowercase=True)
    # The library numbers the inner letters (##a) in the order of a hash map, another one in each
    # process, and breaks ties between merges by number. Named beforehand, they have fixed numbers.
    texts = [trainer.normalize(text) for text in texts]
    letters = Counter(letter for text in texts for letter in text if not letter.isspace())
    alphabet = sorted(sorted(letters), key=letters.get, reverse=True)[: min(ALPHABET, vocabulary // 4)]
    kept = set(alphabet)
    texts = ["".join(letter if letter in kept else " " for letter in text) for text in texts]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"##{letter}" for letter in alphabet)]
    trainer.train_from_iterator(
        texts, vocab_size=vocabulary, min_frequency=2, show_progress=False, special_tokens=special
    )
    plain = BertWordPieceTokenizer(dict(sorted(trainer.get_vocab().items(), key=lambda item: item[1])), lowercase=True)
    # DistilBERT's is BERT's, but for token types, which the model does not take.
    kind = DistilBertTokenizerFast if family == "distilbert" else BertTokenizerFast
    return kind(tokenizer_object=plain._tokenizer, do_lower_case=True)


def _byte_level_bpe(texts: list[str], vocabulary: int, family: str) -> Any:
    from tokenizers.processors import RobertaProcessing
    from transformers import RobertaTokenizerFast

    plain = _trained_on_bytes(texts, vocabulary, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    plain.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    return RobertaTokenizerFast(tokenizer_object=plain)


def _trained_on_bytes(texts: list[str], vocabulary: int, special: list[str]) -> Any:
    from tokenizers.implementations import ByteLevelBPETokenizer

    plain = ByteLevelBPETokenizer()
    plain.train_from_iterator(
        texts, vocab_size=vocabulary, min_frequency=2, show_progress=False, special_tokens=special
    )
    return plain._tokenizer


SENTINELS = tuple(f"<extra_id_{number}>" for number in range(100))
"""What stands in T5's inputs for what is hidden (Raffel et al., 2020, section 3.1.4)."""


@dataclass(frozen=True)
class Marks:
    """The special tokens of a family that writes.

    named: by the names that transformers has for them. one, two: where they stand about a text, and about a pair.
    """

    named: Mapping[str, str]
    one: str
    two: str
    more: tuple[str, ...] = ()


MARKS: Mapping[str, Marks] = {
    "gpt2": Marks({name: "<|endoftext|>" for name in ("bos_token", "eos_token", "unk_token")}, "$A", "$A $B"),
    "llama": Marks(
        {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}, "<s> $A", "<s> $A <s> $B"
    ),
    "t5": Marks(
        {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}, "$A </s>", "$A </s> $B </s>", SENTINELS
    ),
    "bart": Marks(
        {
            "bos_token": "<s>", "cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "sep_token": "</s>",
            "unk_token": "<unk>", "mask_token": "<mask>",
        },
        "<s> $A </s>",
        "<s> $A </s> </s> $B </s>",
    ),
}  # fmt: skip
"""As in the families' own tokenizers."""


def _writers_bpe(texts: list[str], vocabulary: int, family: str) -> Any:
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    marks = MARKS[family]
    special = [*dict.fromkeys(marks.named.values()), *marks.more]
    plain = _trained_on_bytes(texts, vocabulary, special)
    used = [(mark, plain.token_to_id(mark)) for mark in special if mark in marks.two.split()]
    plain.post_processor = TemplateProcessing(single=marks.one, pair=marks.two, special_tokens=used)
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, model_input_names=["input_ids", "attention_mask"],
        additional_special_tokens=list(marks.more), **marks.named,
    )  # fmt: skip


BYTE_LEVEL = ("roberta", "modernbert")
"""The families whose tokenizers work on bytes."""


@dataclass(frozen=True)
class Frame:
    """The marks of blocks, by number: those before and behind each text, and those before and behind each block."""

    before_text: tuple[int, ...] = ()
    behind_text: tuple[int, ...] = ()
    front: tuple[int, ...] = ()
    back: tuple[int, ...] = ()


def frame(family: str, tokenizer: Any) -> Frame:
    """Return the marks of a family's blocks.

    Encoders and BART frame a block as they frame a text. A decoder's is a piece of a stream of texts; T5's gets its
    mark behind what is left of it.
    """
    if family == "gpt2":
        return Frame(behind_text=(tokenizer.eos_token_id,))
    if family == "llama":
        return Frame((tokenizer.bos_token_id,), (tokenizer.eos_token_id,))
    if family == "t5":
        return Frame(behind_text=(tokenizer.eos_token_id,))
    separator = (tokenizer.sep_token_id,)
    return Frame(behind_text=separator, front=(tokenizer.cls_token_id,), back=separator)


def blocks(texts: list[str], tokenizer: Any, marks: Frame, length: int, max_tokens: int | None) -> np.ndarray:
    """Return the corpus as equal blocks of token ids, shape (blocks, length), with their marks.

    The texts stand one after the other with a separator between them (FULL-SENTENCES across
    documents; Liu et al., 2019, section 4.2), so no position is padding.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    limit, found, pieces = max_tokens or math.inf, 0, [np.zeros(0, np.int32)]
    for encoded in _encoded(texts, backend):
        pieces.append(np.array([*marks.before_text, *encoded, *marks.behind_text], np.int32))
        found += len(pieces[-1])
        if found >= limit:
            break
    stream = np.concatenate(pieces)[: int(min(found, limit))]
    inner = length - len(marks.front) - len(marks.back)
    count = len(stream) // inner
    if not count:
        raise StudyError(f"pretrain: the corpus has {len(stream)} tokens, fewer than one block of {length}; add text.")
    rows = stream[: count * inner].reshape(count, inner)
    front, back = (np.tile(np.array(own, np.int32), (count, 1)) for own in (marks.front, marks.back))
    return np.concatenate([front, rows, back], axis=1)


def _encoded(texts: list[str], backend: Any) -> Iterator[list[int]]:
    for start in range(0, len(texts), 2048):
        for encoding in backend.encode_batch_fast(texts[start : start + 2048], add_special_tokens=False):
            yield encoding.ids
