"""Backbones: Hugging Face folders with weights in safetensors, and models loaded from them.

Importing this module imports neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftstudy.errors import StudyError
from peftstudy.files import file_entry, read_json, sha256_json, whole_folder, write_json
from peftstudy.shapes import Shape, read_shape, read_tensors, weight_files

if TYPE_CHECKING:
    from torch import nn

    from peftstudy.tasks import Task

TOKENIZERS = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"))
TOKENIZER_FILES = {name for names in TOKENIZERS for name in names} | {
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
}  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """A model for a task, and the names of its freshly initialised parameters: the head."""

    model: nn.Module
    head: frozenset[str]


def load(
    folder: Path, task: Task, classes: int, seed: int, attention: str = "sdpa", labels: Sequence[str] = ()
) -> Loaded:
    """Return the backbone with a fresh head for the task, in float32, in evaluation mode.

    labels: the names of the classes, for the model's configuration.

    seed: fixes the head's initial values, bit for bit, whatever method comes after.
    The head is what the weights do not hold: BERT's classifier, and its pooler when masked-language
    modelling alone has trained the backbone; RoBERTa's classifier with both its layers.
    Raises StudyError when the weights lack a part of the body, do not fit config.json, or hold a classifier.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    shape = read_shape(folder)
    if used := [
        name
        for name in read_tensors(folder)
        if name.startswith(("classifier.", "qa_outputs.", "score.", "classification_head."))
    ]:
        raise StudyError(f"{folder}: is fine-tuned already (its weights hold {used[0]}); give a bare backbone.")
    if reason := impossible(task, shape):
        raise StudyError(f"{folder}: {reason}.")
    if not shape.about.sdpa:
        attention = "eager"
    # A model that writes has no use for classes, and some take their number amiss.
    width = {} if task.writes else {"num_labels": task.outputs(classes)}
    seed_torch(seed, "head")
    try:
        with quiet():
            model, report = getattr(transformers, auto_class(task, shape)).from_pretrained(
                folder, **width, attn_implementation=attention, dtype=torch.float32,
                local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True,
            )  # fmt: skip
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise StudyError(f"{folder}: cannot be loaded ({' '.join(str(error).split())[:300]}).") from error
    prefix = model.base_model_prefix
    fresh = frozenset(report["missing_keys"])
    if task.writes:
        body = sorted(fresh - {"lm_head.weight"})
    else:
        body = sorted(n for n in fresh if n.startswith(f"{prefix}.") and not n.startswith(f"{prefix}.pooler."))
    if body:
        raise StudyError(f"{folder}: the weights lack {body[0]} ({len(body)} of the {shape.family} body in all).")
    # Where choices share one logit, as many names would stand for so many of them when the model is read back.
    if labels and (task.writes or task.outputs(classes) == len(labels)):
        model.config.id2label = dict(enumerate(labels))
    return Loaded(model.eval(), fresh)


def auto_class(task: Task, shape: Shape) -> str:
    """Return the transformers Auto class that makes a backbone with the task's head."""
    return shape.about.language_model if task.writes else task.auto_class


def shape_for(folder: Path, task: Task) -> Shape:
    """Return the shape of a backbone under the task's head.

    One that reads every token leaves BERT's pooler out, but not ModernBERT's head, through which it reads them; one
    that writes uses the vocabulary matrix.
    """
    shape = read_shape(folder)
    if shape.about.writes:
        return replace(shape, output=task.writes and shape.has_output)
    return shape if task.reads_first or shape.family == "modernbert" else replace(shape, pooler=False)


def impossible(task: Task, shape: Shape) -> str | None:
    """Return why a backbone of this shape cannot do a task, if it cannot."""
    family = shape.about
    if task.writes and not family.writes:
        return f"{task.name} wants a backbone that writes text, and {shape.family} is an encoder"
    if not task.writes and not task.reads_first and family.writes:
        return f"{task.name} is for encoders, which read what follows a word, too; {shape.family} is none"
    return None


def seed_torch(seed: int, stream: str) -> None:
    """Seed torch's generators for one use of a run's seed ("head", "method", "training", …).

    Streams of one seed are independent, so that what one part draws never shifts another's draws.
    """
    import torch

    digest = hashlib.sha256(f"{stream}/{seed}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:7]))


def randomise(folder: Path, output: Path, seed: int) -> None:
    """Write the same backbone with weights drawn anew: what pre-training is compared with."""
    import transformers

    seed_torch(seed, "random backbone")
    shape = read_shape(folder)
    with quiet(), whole_folder(output) as temporary:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        pooling = {"add_pooling_layer": shape.pooler} if shape.family in ("bert", "roberta") else {}
        kind = shape.about.language_model if shape.about.writes else "AutoModel"
        getattr(transformers, kind).from_config(config, **pooling).save_pretrained(temporary)
        _copy(tokenizer_files(folder), temporary)


def copy_folder(source: Path, output: Path, family: str | None = None) -> None:
    """Copy a backbone's configuration, tokenizer and safetensors, and nothing else.

    family: goes into a config.json that does not say its own.

    Raises StudyError for a missing or truncated file, weights in another format, weights that do not
    fit config.json, or a tokenizer that does not fit the embeddings; then nothing is written.
    """
    source = Path(source)
    shape = read_shape(source, family)
    for name, found in read_tensors(source).items():
        expected = (shape.vocabulary, shape.embedding)
        if name.endswith("embeddings.word_embeddings.weight") and found != expected:
            raise StudyError(f"{source}: {name} has the shape {found}; config.json says {expected}.")
    files = [source / "config.json", *tokenizer_files(source), *weight_files(source)]
    if len(weight_files(source)) > 1:
        files.append(source / "model.safetensors.index.json")
    with whole_folder(output) as temporary:
        _copy(files, temporary)
        if family:
            name_family(temporary / "config.json", family)
        check_tokenizer(temporary, shape, source)


def name_family(config: Path, family: str) -> None:
    """Write the family into a config.json that has none; refuse one that says another."""
    found = {"model_type": family} | read_json(config)
    if found["model_type"] != family:
        raise StudyError(f"{config}: model_type is {found['model_type']!r}, but the study says family: {family}.")
    write_json(config, found)


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files that make a folder's tokenizer; StudyError when there is none."""
    folder = Path(folder)
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        known = ", ".join(" with ".join(names) for names in TOKENIZERS)
        raise StudyError(f"{folder}: no tokenizer (looked for {known}).")
    return sorted(folder / name for name in TOKENIZER_FILES if (folder / name).is_file())


def _copy(files: list[Path], folder: Path) -> None:
    for path in files:
        shutil.copyfile(path, folder / path.name)


def check_tokenizer(folder: Path, shape: Shape, where: Path | None = None) -> None:
    """Raise StudyError when the tokenizer gives ids for which the backbone has no embedding, or cannot be read.

    where: the folder that the error names, when it is not this one.
    """
    import transformers

    where = where or folder

    if (Path(folder) / "tokenizer.json").is_file():
        read_json(Path(folder) / "tokenizer.json")
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{where}: the tokenizer cannot be read ({' '.join(str(error).split())[:300]}).") from error
    ids = max(tokenizer.get_vocab().values()) + 1
    if ids > shape.vocabulary:
        raise StudyError(
            f"{where}: the tokenizer does not fit: it has {ids} ids, the embeddings {shape.vocabulary} rows."
        )


def write_manifest(folder: Path, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Write and return manifest.json: files with their SHA-256, one over them all, the body's parameters, `extra`."""
    folder = Path(folder)
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name != "manifest.json")
    entries = [file_entry(path) for path in paths]
    own = {"files": entries, "sha256": sha256_json(entries), "parameters": read_shape(folder).parameters}
    manifest = {**extra, **own}
    write_json(folder / "manifest.json", manifest)
    return manifest


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' advice (that a head is fresh is what we ask for) and its progress bars."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
