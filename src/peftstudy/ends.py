"""The mark that ends a text, for backbones that write.

A checkpoint may name one that its training never had as a target: stories260K does, whose stories ended where the next
began. Training only ever pushes the logits of such tokens down, all alike, until nothing tells their rows of the
vocabulary apart, and a method that leaves the vocabulary alone can never end a text.
"""

from pathlib import Path
from typing import Any

from peftstudy import files
from peftstudy.errors import StudyError
from peftstudy.shapes import tensors_of, weight_files

# What the layer that chooses the next token is called, the more telling name first: most share the words' embeddings.
VOCABULARIES = ("lm_head.weight", "shared.weight", "embed_tokens.weight", "wte.weight")
ALIKE = 0.05  # how far another row may lie to count as equal, as a share of the row's own length
ROWS = 8192


def end_mark(tokenizer: Any) -> tuple[int, list[int]]:
    """Return the id of a tokenizer's end mark, and what must be put behind its texts for them to end with it."""
    end = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    return end, [] if tokenizer("a")["input_ids"][-1] == end else [end]


def name_end(folder: Path, token: str, at: str) -> None:
    """Make a token the end mark of the tokenizer and model in a folder; StudyError when the tokenizer has none such.

    at: opens the sentence.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if token not in tokenizer.get_vocab():
        special = ", ".join(sorted(set(tokenizer.all_special_tokens)))
        raise StudyError(f"{at}: found {token!r}, which is no token of this backbone (its special ones: {special}).")
    tokenizer.eos_token = token
    tokenizer.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        if (folder / name).exists():
            files.write_json(folder / name, files.read_json(folder / name) | {"eos_token_id": tokenizer.eos_token_id})


def refuse_unlearned(folder: Path, tokenizer: Any) -> None:
    """Raise StudyError when the weights in a folder cannot tell the end mark from other tokens.

    Not so where the study itself says which mark it is (see name_end): who writes that has chosen.
    """
    manifest = folder / "manifest.json"
    if manifest.exists() and "end" in files.read_json(manifest):
        return
    end = end_mark(tokenizer)[0]
    if number := _alike(folder, end):
        mark = tokenizer.convert_ids_to_tokens(end)
        raise StudyError(
            f"{folder}: the weights cannot tell the end mark {mark!r} from {number} other tokens (their rows of the "
            "vocabulary are as good as equal), so that hardly a text would end; say under this backbone what its "
            f"training texts ended with (such as end: {tokenizer.bos_token or '<s>'!r}), or end: {mark!r} to have it "
            "so."
        )


def _alike(folder: Path, token: int) -> int:
    """Return how many other rows of the vocabulary are as good as equal to a token's own."""
    from safetensors import safe_open

    place = _vocabulary(folder)
    if place is None:
        return 0
    path, name = place
    with safe_open(path, framework="pt") as weights:
        rows, number = weights.get_slice(name), 0
        own = rows[token : token + 1].float()
        for start in range(0, rows.get_shape()[0], ROWS):
            distances = (rows[start : start + ROWS].float() - own).norm(dim=1)
            number += int((distances <= ALIKE * own.norm()).sum())
    return number - 1


def _vocabulary(folder: Path) -> tuple[Path, str] | None:
    """Return the file and the name of the matrix that has a row for each token that may come next."""
    stored = [(path, name) for path in weight_files(folder) for name in tensors_of(path)]
    for wanted in VOCABULARIES:
        for path, name in stored:
            if name == wanted or name.endswith(f".{wanted}"):
                return path, name
    return None
