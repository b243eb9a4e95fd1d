"""The Hugging Face hub: fetch the files of one commit, whole, so that nothing after needs a network."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from peftstudy.errors import StudyError, unknown
from peftstudy.files import file_entry, read_json, write_json

MODEL_FILES = ("*.safetensors", "*.json", "vocab.txt", "merges.txt", "*.model")
# Formats that run code when they are read, or that only other frameworks read.
PICKLES = (".bin", ".ckpt", ".joblib", ".npy", ".pickle", ".pkl", ".pt", ".pth")
MANIFEST = "manifest.json"


def fetch(
    repository: str, revision: str, kind: Literal["dataset", "model"], patterns: Sequence[str], folder: Path
) -> dict[str, Any]:
    """Fetch a repository's files at one commit into `folder`, whole or not at all; return the manifest.

    revision: the full commit hash. patterns: names of files, which may hold * and ?; for a model,
    none means MODEL_FILES. The manifest (repository, revision, kind, patterns, and each file's
    bytes and SHA-256) is also written to folder/manifest.json; when it is there already and says
    the same, nothing is fetched. No code of the repository is run, and no pickle is fetched.
    Raises StudyError for an unknown repository, revision or file, a model without safetensors
    weights, and a transfer that fails.
    """
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise StudyError(f"{repository}: the revision {revision!r} is no full commit hash (40 characters of 0-9a-f).")
    patterns = sorted(set(patterns) or (set(MODEL_FILES) if kind == "model" else set()))
    asked = {"repository": repository, "revision": revision, "kind": kind, "patterns": patterns}
    if (folder / MANIFEST).is_file():
        there = read_json(folder / MANIFEST)
        if all(there.get(key) == value for key, value in asked.items()):
            return there
    with _explained(repository, revision, kind):
        sizes = _listing(repository, revision, kind)
        names = _chosen(repository, revision, kind, patterns, sizes)
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            _download(repository, revision, kind, {name: sizes[name] for name in names}, part)
            files = [file_entry(part / name) | {"name": name} for name in names]
            manifest = asked | {"files": files}
            write_json(part / MANIFEST, manifest)
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return manifest


def _listing(repository: str, revision: str, kind: str) -> dict[str, int | None]:
    """Return the sizes, where the hub tells them, of all files of a commit."""
    from huggingface_hub import HfApi

    info = HfApi().repo_info(repository, revision=revision, repo_type=kind, files_metadata=True)
    if info.sha != revision:
        raise StudyError(f"{repository}: the hub answered with commit {info.sha}, not with {revision}.")
    return {file.rfilename: file.size for file in sorted(info.siblings, key=lambda file: file.rfilename)}


def _chosen(repository: str, revision: str, kind: str, patterns: Sequence[str], present: Sequence[str]) -> list[str]:
    """Return the names to fetch, sorted; a pattern must match, but for the defaults of a model."""
    where = f"{repository} at {revision[:12]}"
    safe = [name for name in present if not name.endswith(PICKLES)]
    names: set[str] = set()
    for pattern in patterns:
        matching = [name for name in safe if name == pattern or fnmatch(name, pattern)]
        if not matching and any(fnmatch(name, pattern) for name in present):
            raise StudyError(f"{where}: {pattern} is a pickle, which may run code when it is read; it is not fetched.")
        if not matching and pattern not in MODEL_FILES:
            raise unknown(where, "file", pattern, list(present)[:100])
        names.update(matching)
    if kind == "model" and not any(name.endswith(".safetensors") for name in names):
        raise StudyError(
            f"{where}: has no weights in safetensors (its files: {', '.join(present)[:300]}); pickled weights are not "
            "read: take a commit that holds model.safetensors, or convert the model and give its folder."
        )
    if kind == "model":
        # Only weights at the top: some repositories keep other precisions or exports in folders.
        names = {name for name in names if "/" not in name}
    return sorted(names)


def _download(repository: str, revision: str, kind: str, sizes: dict[str, int | None], folder: Path) -> None:
    """Fetch the named files into a new folder and check that each has its size."""
    from huggingface_hub import snapshot_download

    folder.parent.mkdir(parents=True, exist_ok=True)
    snapshot_download(
        repository, repo_type=kind, revision=revision, local_dir=folder, allow_patterns=list(sizes), max_workers=4
    )
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    for name, size in sizes.items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found is None or (size is not None and found != size):
            raise StudyError(f"{repository}: {name} arrived with {found or 0} bytes of {size}; try again.")


@contextmanager
def _explained(repository: str, revision: str, kind: str) -> Iterator[None]:
    """Turn the hub library's errors into one sentence."""
    import requests
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise StudyError(f"{repository}: this {kind} asks for consent on the hub; log in there first.") from None
    except errors.RepositoryNotFoundError:
        raise StudyError(
            f"{repository}: the hub has no such {kind} (or it is private); look at its spelling."
        ) from None
    except errors.HFValidationError as error:
        raise StudyError(f"{repository}: is no name of a repository ({_line(error)}).") from None
    except errors.RevisionNotFoundError:
        raise StudyError(f"{repository}: the hub has no revision {revision} of this {kind}.") from None
    except errors.EntryNotFoundError as error:
        raise StudyError(f"{repository} at {revision[:12]}: a file is missing ({_line(error)}).") from None
    except errors.OfflineModeIsEnabled:
        raise StudyError(
            f"{repository}: not fetched yet, and HF_HUB_OFFLINE is set; fetch it where there is a network."
        ) from None
    except (requests.RequestException, errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise StudyError(f"{repository}: the transfer from the hub failed ({_line(error)}); try again.") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
