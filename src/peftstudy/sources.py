"""Sources: read each into one table (table.parquet) with a manifest of what it was made from."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from peftstudy import docstrings, hub
from peftstudy.docstring_views import VIEWS
from peftstudy.errors import StudyError, refuse_unknown, unknown
from peftstudy.files import file_entry, matching, names_under, sha256, sha256_json, whole, write_json
from peftstudy.formats import read_table
from peftstudy.specs import Source, digest, expanded

RESERVED = "part"
OF_CLASSES = ("id", "text", "label", "part")
"""The columns of what is read from folders of text files."""


def read_source(source: Source, output: Path, manifest: Path, lock: Path = Path("requirements.lock")) -> None:
    """Write a source's table to `output` (parquet) and what it was made from to `manifest` (JSON).

    The table has the source's own columns, and `id` (a string, unique) and `part` (the official
    part, or "all"). `lock` names the packages of a docstring source that names none. Files of the
    hub are fetched to the folder `files` beside the table, once; no other kind uses a network.
    Raises StudyError for what is missing, truncated, empty or malformed.
    """
    options = dict(source.options)
    where = f"sources.{source.name}"
    if source.kind == "docstrings":
        packages = options.get("packages") or [*docstrings.locked(lock), *docstrings.UNLOCKED]
        frame, report = docstrings.harvest(packages)
        if "view" in options:
            frame = VIEWS[options["view"]](frame)
            if not len(frame):
                raise StudyError(f"{where}.view: the docstrings of {', '.join(packages)} give no {options['view']}.")
        table = pa.Table.from_pandas(frame, preserve_index=False)
    elif source.kind == "files":
        table, report = _local(where, options)
    elif source.kind == "hub":
        table, report = _from_hub(where, options, output.parent / "files")
    else:
        raise unknown(where, "kind", source.kind, ["docstrings", "files", "hub"])
    write_table(table, output)
    described = {
        "kind": source.kind, "rows": table.num_rows, "columns": table.column_names, "sha256": sha256(output),
        "asked": digest(source),
    }  # fmt: skip
    write_json(manifest, report | described)


def write_table(table: pa.Table | pd.DataFrame, path: Path) -> None:
    """Write a table as parquet: the same bytes for the same rows."""
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False)
    with whole(path) as temporary:
        pq.write_table(table.replace_schema_metadata(None), temporary, compression="zstd")


def expand(where: str, path: str) -> Path:
    """Return a path with ~ and environment variables expanded; one that is not set is an error."""
    found = expanded(path)
    missing = re.search(r"\$\{?(\w+)\}?", str(found))
    if missing:
        raise StudyError(f"{where}: the environment variable {missing[1]} in the path {path!r} is not set.")
    return found


def local_folder(where: str, path: str, key: str = ".path") -> Path:
    """Return a folder on this machine, or raise StudyError. where, key: name the setting that it stands under."""
    folder = expand(f"{where}{key}", path)
    if folder.is_file():
        raise StudyError(f"{where}{key}: {folder} is a file; want its folder there, and its name under files.")
    if not folder.is_dir():
        looked = "" if folder.is_absolute() else f" (looked for at {folder.resolve()})"
        raise StudyError(f"{where}{key}: there is no folder {folder}{looked}.")
    return folder


def read_parts(
    where: str, folder: Path, files: Mapping[str, str | Sequence[str]], wanted: Sequence[str] = ()
) -> tuple[pa.Table, list[dict]]:
    """Return the rows of files in a folder, by official part, and the manifest's entries of the files.

    files: for each part a name or names, which may hold * and ?. wanted: the columns that are read
    beside the id; all when there are none, and then every file has the same.
    """
    tables: dict[str, list[pa.Table]] = {}
    entries = []
    columns: tuple[Path, set[str]] | None = None
    seen: dict[Path, str] = {}
    for part, named in files.items():
        for path in named_files(where, folder, [named] if isinstance(named, str) else named):
            if path in seen:
                raise StudyError(f"{where}.{part}: {path} is named twice (under {seen[path]}, too); once is enough.")
            seen[path] = part
            table = _only(path, read_table(path), wanted)
            if RESERVED in table.column_names:
                raise StudyError(
                    f"{path}: has a column {RESERVED!r}, which is reserved for the official part; rename it."
                )
            columns = columns or (path, set(table.column_names) - {"id"})
            _same_columns(path, set(table.column_names) - {"id"}, *columns)
            tables.setdefault(part, []).append(table)
            name = path.relative_to(folder).as_posix()
            entries.append(file_entry(path) | {"name": name, "part": part, "rows": table.num_rows})
    return _with_ids(where, {part: _concatenated(where, part, found) for part, found in tables.items()}), entries


def _only(path: Path, table: pa.Table, wanted: Sequence[str]) -> pa.Table:
    refuse_unknown(str(path), "column", wanted, table.column_names)
    return table.select([name for name in table.column_names if name in {"id", *wanted}]) if wanted else table


def _local(where: str, options: Mapping[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
    folder = local_folder(where, options["path"])
    if ("files" in options) == ("classes" in options):
        raise StudyError(f"{where}: give either files (by part) or classes (folders of text files by part).")
    if "classes" in options:
        table, entries = _read_classes(where, folder, dict(options["classes"]))
    else:
        wanted = options.get("columns", ())
        table, entries = read_parts(f"{where}.files", folder, dict(options["files"]), wanted)
    return table, {"files": entries}


def _from_hub(where: str, options: Mapping[str, Any], folder: Path) -> tuple[pa.Table, dict[str, Any]]:
    files = {part: [names] if isinstance(names, str) else list(names) for part, names in dict(options["files"]).items()}
    patterns = [name for names in files.values() for name in names]
    fetched = hub.fetch(options["repository"], options["revision"], "dataset", patterns, folder)
    table, entries = read_parts(f"{where}.files", folder, files, options.get("columns", ()))
    return table, {"repository": fetched["repository"], "revision": fetched["revision"], "files": entries}


def named_files(where: str, folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the paths of named files, in order; names with * or ? stand for all that match, sorted."""
    paths = []
    for name in names:
        found = matching(folder, name)
        if not found:
            raise unknown(f"{where}: {folder}", "file", name, names_under(folder)[:100])
        paths += found
    return paths


def _read_classes(where: str, folder: Path, classes: Mapping[str, Sequence[str]]) -> tuple[pa.Table, list[dict]]:
    """Return the texts of folder/part/class/*.txt with the class's name as the label."""
    rows: list[dict[str, str]] = []
    entries = []
    for part, labels in classes.items():
        for label in labels:
            texts = class_files(where, folder, part, label)
            found = [
                {"id": f"{part}/{label}/{path.name}", "text": _text(path), "label": label, "part": part}
                for path in texts
            ]
            size = sum(path.stat().st_size for path in texts)
            digest = sha256_json([[row["id"], row["text"]] for row in found])
            entries.append(
                {"name": f"{part}/{label}", "part": part, "rows": len(found), "bytes": size, "sha256_rows": digest}
            )
            rows += found
    return pa.Table.from_pylist(rows), entries


def class_files(where: str, folder: Path, part: str, label: str) -> list[Path]:
    """Return the texts of a class, folder/part/label/*.txt, in order."""
    found = sorted((folder / part / label).glob("*.txt"))
    if not found:
        known = [path.name for path in (folder / part).glob("*/")]
        raise unknown(f"{where}.classes.{part}: {folder / part}", "folder of .txt files", label, known)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise StudyError(f"{path}: not text in UTF-8.") from None


def _same_columns(path: Path, found: set[str], first: Path, known: set[str]) -> None:
    if found != known:
        differing = ", ".join(sorted(found ^ known))
        raise StudyError(
            f"{path}: its columns differ from those of {first} ({differing}); all files of a source need the same."
        )


def _concatenated(where: str, part: str, tables: Sequence[pa.Table]) -> pa.Table:
    """Return a part's tables as one; its `id` stays only when every file has it."""
    if not all("id" in table.column_names for table in tables):
        tables = [table.drop_columns(["id"]) if "id" in table.column_names else table for table in tables]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise StudyError(f"{where}.{part}: the files' columns do not fit together ({_line(error)}).") from None


def _with_ids(where: str, parts: Mapping[str, pa.Table]) -> pa.Table:
    """Return the parts as one table, with `part` and a unique `id`.

    Given ids are kept where they are unique; with the part's name before them where they repeat in
    another part; otherwise ids are made of the part and the row's number, from 1.
    """
    given = {part: _ids(table) for part, table in parts.items()}
    unique = all(ids is not None and len(set(ids)) == len(ids) for ids in given.values())
    across = unique and len(set().union(*given.values())) == sum(map(len, given.values()))
    tables = []
    for part, table in parts.items():
        numbers = [str(number) for number in range(1, table.num_rows + 1)]
        ids = given[part] if across else [f"{part}/{own}" for own in (given[part] if unique else numbers)]
        rest = table.drop_columns(["id"]) if "id" in table.column_names else table
        added = {"id": pa.array(ids, pa.string()), "part": pa.array([part] * len(ids), pa.string())}
        for position, (name, values) in enumerate(added.items()):
            rest = rest.add_column(position, name, values)
        tables.append(rest)
    return _concatenated(where, "parts", tables)


def _ids(table: pa.Table) -> list[str] | None:
    if "id" not in table.column_names or table["id"].null_count:
        return None
    return [str(value) for value in table["id"].to_pylist()]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
