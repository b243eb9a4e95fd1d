"""Files that are written whole or not at all, and known by their checksum."""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from peftstudy.errors import StudyError

UNREADABLE = (IsADirectoryError, NotADirectoryError, PermissionError)


@contextmanager
def whole(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, it becomes `path`.

    The file is flushed to the disk before it is renamed, so a reader sees the old file or the
    new one, never a part of it. When the block raises, `path` is left as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def forget_parts(folder: Path, name: str = "*") -> None:
    """Remove what killed writers left of files that `whole` was to write; for who is the only writer there now.

    name: of one file; without it, all files of the folder.
    """
    for path in folder.glob(f".{name}.*.part"):
        path.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; when the block ends well, it becomes `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True) as name:
        temporary = Path(name) / path.name
        temporary.mkdir()
        yield temporary
        if path.exists():
            path.replace(Path(name) / "old")
        temporary.replace(path)


@contextmanager
def new_folder(path: Path | str) -> Iterator[Path]:
    """Do the same for a folder that a user names: one that is there is refused."""
    refuse_existing(path)
    with whole_folder(path) as temporary:
        yield temporary


def refuse_existing(path: Path | str) -> None:
    """Raise StudyError where something is already: what is a user's own is not replaced."""
    if Path(path).exists():
        raise StudyError(f"{path}: is there already; name a new folder.")


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: Path | str) -> str:
    """Return the text in `path`, in UTF-8; a missing file is a StudyError that names it."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; the stage before this one makes it.") from None
    except UNREADABLE as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror}.") from None


def write_json(path: Path | str, value: Any, sort_keys: bool = True) -> None:
    """Write `value` to `path` as indented JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=sort_keys, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Return the JSON value in `path`; a missing or broken file is a StudyError that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file.") from None
    except UNREADABLE as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StudyError(f"{path}: not a whole JSON file ({error}); delete it to make it again.") from None


def write_sealed(path: Path | str, value: Mapping[str, Any]) -> None:
    """Write a mapping as JSON with its own checksum, the key `sha256`."""
    write_json(path, {**value, "sha256": sha256_json(value)})


def read_sealed(path: Path | str) -> dict[str, Any]:
    """Return the mapping that write_sealed wrote, without its checksum; StudyError when the two differ.

    One without a checksum is from before there were any, and is taken as it is.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise StudyError(f"{path}: not a JSON object; delete it to make it again.")
    sealed = value.pop("sha256", None)
    if sealed is not None and sealed != sha256_json(value):
        raise StudyError(f"{path}: damaged (its checksum differs); delete it to make it again.")
    return value


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON (sorted keys, no white space)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_entries(folder: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Compare the files of a folder with what its manifest says of them; StudyError for the first that differs."""
    for entry in entries:
        path = folder / entry["name"]
        if not path.exists():
            raise StudyError(f"{path}: is missing; delete {folder} to make it again.")
        if path.stat().st_size != entry["bytes"] or sha256(path) != entry["sha256"]:
            raise StudyError(f"{path}: damaged (its checksum differs); delete {folder} to make it again.")


def file_entry(path: Path) -> dict[str, Any]:
    """Return what a manifest says of one file: its name, its bytes and its SHA-256."""
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def names_under(folder: Path) -> list[str]:
    """Return the names of the files in a folder and those below it, sorted, with / between their parts."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def matching(folder: Path, name: str) -> list[Path]:
    """Return the files that a name under a folder stands for, sorted: its own, or all that fit its *, ? and [...].

    As a pattern's * stands for anything, it goes into folders as well.
    """
    if (folder / name).is_file():
        return [folder / name]
    if not set(name) & set("*?["):
        return []
    return [folder / found for found in names_under(folder) if fnmatch(found, name)]
