"""The text that a backbone is pre-trained on, and the tokenizer that is trained on it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from peftstudy.errors import StudyError

ALPHABET = 500  # letters, the most frequent ones, of which words are made; words with others are unknown


def fold(text: str | Iterable[str]) -> str:
    """Return a text, or a list of words, with its white space folded: what two copies of a text have in common."""
    return " ".join((text if isinstance(text, str) else " ".join(text)).split())


def _folded(value: Any) -> str:
    """Return the folded text of a cell; what is neither a text nor a list of words is written out."""
    return fold(value if isinstance(value, list | np.ndarray) else str(value))


def read_corpus(
    tables: Sequence[Path], columns: Sequence[str], exclusions: Iterable[tuple[Path, str, str]]
) -> tuple[list[str], dict[str, int]]:
    """Return a corpus' texts, white space folded, in the tables' order, without empty, repeated and excluded ones.

    tables, columns: the sources' tables and the column of each that holds the text.
    exclusions: a path, its column of texts that must stay out, and the corpus' own column that is
    compared with them beside the text, where a table has it (see study.Study.exclusions).
    Returns the texts and the number left out by reason.
    """
    exclusions = list(exclusions)
    banned = {fold(text) for path, column, _ in exclusions for text in pd.read_parquet(path, columns=[column])[column]}
    checked = {own for _, _, own in exclusions}
    texts, seen, left_out = [], set(), {"empty": 0, "repeated": 0, "excluded": 0}
    for path, column in zip(tables, columns, strict=True):
        table = pd.read_parquet(path)
        if column not in table:
            raise StudyError(f"{path}: no column {column!r} for pre-training (known: {', '.join(table.columns)}).")
        folds = {name: table[name].map(_folded) for name in {column} | (checked & set(table.columns))}
        is_banned = np.any([key.isin(banned) for key in folds.values()], axis=0)
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

    bert: lower-cased WordPiece (Devlin et al., 2019); roberta: byte-level BPE (Liu et al., 2019).
    positions: the longest input in tokens. Raises StudyError when the texts have too few words for
    the vocabulary.
    """
    tokenizer = TRAINERS[family](texts, vocabulary)
    if tokenizer.backend_tokenizer.get_vocab_size() != vocabulary:
        found = tokenizer.backend_tokenizer.get_vocab_size()
        raise StudyError(
            f"pretrain.tokenizer.vocabulary: {vocabulary} asked, but the corpus has text for {found}; ask for fewer."
        )
    tokenizer.model_max_length = positions
    return tokenizer


def _wordpiece(texts: list[str], vocabulary: int) -> Any:
    from tokenizers.implementations import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

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
    return BertTokenizerFast(tokenizer_object=plain._tokenizer, do_lower_case=True)


def _byte_level_bpe(texts: list[str], vocabulary: int) -> Any:
    from tokenizers.implementations import ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing
    from transformers import RobertaTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    plain = ByteLevelBPETokenizer()
    plain.train_from_iterator(
        texts, vocab_size=vocabulary, min_frequency=2, show_progress=False, special_tokens=special
    )
    plain._tokenizer.post_processor = RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return RobertaTokenizerFast(tokenizer_object=plain._tokenizer)


TRAINERS = {"bert": _wordpiece, "roberta": _byte_level_bpe}


def blocks(texts: list[str], tokenizer: Any, length: int, max_tokens: int | None) -> np.ndarray:
    """Return the corpus as equal blocks of token ids, shape (blocks, length), each framed by special tokens.

    The texts stand one after the other with a separator between them (FULL-SENTENCES across
    documents; Liu et al., 2019, section 4.2), so no position is padding.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    limit, stream = max_tokens or float("inf"), []
    for encoded in _encoded(texts, backend):
        stream.extend(encoded)
        stream.append(tokenizer.sep_token_id)
        if len(stream) >= limit:
            del stream[int(limit) :]
            break
    inner = length - 2
    count = len(stream) // inner
    if not count:
        raise StudyError(f"pretrain: the corpus has {len(stream)} tokens, fewer than one block of {length}; add text.")
    ids = np.array(stream[: count * inner], dtype=np.int32).reshape(count, inner)
    return np.pad(ids, ((0, 0), (1, 1)), constant_values=((0, 0), (tokenizer.cls_token_id, tokenizer.sep_token_id)))


def _encoded(texts: list[str], backend: Any) -> Iterator[list[int]]:
    for start in range(0, len(texts), 2048):
        for encoding in backend.encode_batch_fast(texts[start : start + 2048], add_special_tokens=False):
            yield encoding.ids


def mask_tokens(
    ids: np.ndarray, rng: np.random.Generator, special: Mapping[str, int], vocabulary: int, share: float = 0.15
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the tokens to be predicted and hide them: 80 % masked, 10 % at random, 10 % kept.

    ids: shape (blocks, length). special: the ids of cls, sep, pad and mask.
    Returns the hidden ids and a mask of the chosen places, both of the shape of `ids`.
    Source: Devlin et al. (2019), section 3.1.
    """
    chosen = rng.random(ids.shape) < share
    for name in ("cls", "sep", "pad"):
        chosen &= ids != special[name]
    draw = rng.random(ids.shape)
    hidden = np.where(chosen & (draw < 0.8), special["mask"], ids)
    swapped = chosen & (draw >= 0.9)
    return np.where(swapped, rng.integers(0, vocabulary, ids.shape), hidden), chosen
