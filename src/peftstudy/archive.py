"""runs -> archive, and back: a finished study's raw results in a few small files, known by their checksums."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftstudy import crates, files
from peftstudy.errors import StudyError, unknown
from peftstudy.metrics import read_rows
from peftstudy.provenance import ROOT
from peftstudy.records import read_whole, write_rows
from peftstudy.specs import RunSpec
from peftstudy.study import Study

if TYPE_CHECKING:
    import pyarrow as pa

ARCHIVES = Path("results/archive")
JSON_FILES = ("record.json", "test.json")
UNPACKED = ("runs", "splits", "tokens", "backbones", "sources", "metrics/baselines")
"""The folders of a study that unpacking makes."""
WHOLE_NUMBERS = ("epoch", "step")
"""Columns of a history that older archives hold as floats."""


@dataclass(frozen=True)
class Contents:
    """What an archive holds: each run's JSON files as text, its history and its answers, by the run's name.

    config: the resolved configuration. about: the JSON files of what the runs were made from.
    """

    config: dict[str, Any]
    about: dict[str, Any]
    records: dict[str, dict[str, str]]
    histories: dict[str, pa.Table]
    answers: dict[str, pa.Table]


def write(study: Study, results: Path, output: Path) -> dict[str, Any]:
    """Write the raw results of every run that the study asks for; return the manifest.

    records.parquet: a row a run, its name and its JSON files as text. histories.parquet,
    predictions.parquet: the runs' rows, with the name in front; predictions have a file for each task,
    predictions-regression.parquet, where there are several. about.json: what the runs were made
    from (sizes, labels, checksums of sources, splits, tokens, backbones; baselines; searches). study.json: the
    resolved configuration, without the folder of this machine's files. Snakefile and ro-crate-metadata.json
    describe it as a Workflow Run RO-Crate. Raises StudyError when a run is missing.
    """
    import pyarrow as pa

    runs = {spec.path: results / "runs" / spec.path for spec in study.runs()}
    missing = [name for name, folder in runs.items() if not all((folder / file).exists() for file in JSON_FILES)]
    if missing:
        raise StudyError(
            f"{results}: {len(missing)} of {len(runs)} runs are missing, {missing[0]} among them; run them first."
        )
    tables = {
        "records": pa.Table.from_pylist([_record(name, folder) for name, folder in runs.items()]),
        "histories": pa.Table.from_pylist([row for name, folder in runs.items() for row in _history(name, folder)]),
        **predictions(study.runs(), results),
    }
    return store(files.read_json(results / "study.json"), _about(study, results), tables, output)


def store(
    config: Mapping[str, Any], about: Mapping[str, Any], tables: Mapping[str, pa.Table], output: Path
) -> dict[str, Any]:
    """Write an archive's files and its manifest into `output`, all or none; return the manifest."""
    from pyarrow import parquet

    with files.whole_folder(output) as folder:
        for name, table in tables.items():
            parquet.write_table(table, folder / f"{name}.parquet", compression="zstd", compression_level=19)
        files.write_json(folder / "about.json", about)
        kept = {**config} | ({"folder": None} if "folder" in config else {})
        files.write_json(folder / "study.json", kept, sort_keys=False)
        if (output / "README.md").exists():
            shutil.copyfile(output / "README.md", folder / "README.md")  # written by hand
        shutil.copyfile(ROOT / crates.WORKFLOW, folder / crates.WORKFLOW)
        found = crates.metadata(folder, config, tables["records"]["record"].to_pylist())
        files.write_json(folder / crates.METADATA, found)
        manifest = {
            "study": config["study"],
            "runs": len(tables["records"]),
            "files": [files.file_entry(path) for path in sorted(folder.iterdir()) if path.name != "README.md"],
        }
        files.write_json(folder / "manifest.json", manifest)
    return manifest


def find(name: str, archives: Path = ARCHIVES) -> Path:
    """Return the folder of an archived study, checked; an unknown name is a StudyError that lists the known."""
    known = [path.name for path in archives.glob("*") if path.is_dir()]
    if name not in known:
        raise unknown("rebuild", f"study under {archives}", name, known)
    check(archives / name)
    study = files.read_json(archives / name / "study.json")["study"]
    if study != name:
        raise StudyError(f"{archives / name}: is of the study {study!r}; give the folder that name.")
    return archives / name


def check(folder: Path) -> dict[str, Any]:
    """Return the manifest of an archive whose files are all there, unchanged, and no others; else a StudyError."""
    manifest = files.read_json(folder / "manifest.json")
    named = {entry["name"]: entry for entry in manifest["files"]}
    found = {path.name for path in folder.iterdir()} - {"manifest.json", "README.md"}
    for names, word in ((named.keys() - found, "is missing"), (found - named.keys(), "is not in the manifest")):
        if names:
            raise StudyError(f"{folder / min(names)}: {word}; fetch the archive again.")
    for name, entry in named.items():
        if files.sha256(folder / name) != entry["sha256"]:
            raise StudyError(f"{folder / name}: changed since the manifest was written; fetch the archive again.")
    if manifest["study"] != files.read_json(folder / "study.json")["study"]:
        raise StudyError(f"{folder / 'manifest.json'}: of the study {manifest['study']}, and study.json of another.")
    return manifest


def configuration(folder: Path) -> dict[str, Any]:
    """Return the configuration of an archived study; its sources are not read again, so it needs no folder."""
    config = files.read_json(folder / "study.json")
    config.pop("folder", None)
    return config


def read(folder: Path) -> Contents:
    """Return what an archive holds that `check` has passed."""
    from pyarrow import parquet

    rows = parquet.read_table(folder / "records.parquet").to_pylist()
    answers: dict[str, pa.Table] = {}
    for path in sorted(folder.glob("predictions*.parquet")):
        answers |= _by_run(parquet.read_table(path))
    return Contents(
        files.read_json(folder / "study.json"), files.read_json(folder / "about.json"),
        {row["run"]: row for row in rows}, _by_run(parquet.read_table(folder / "histories.parquet")), answers,
    )  # fmt: skip


def unpack(folder: Path, study: Study, output: Path) -> int:
    """Write an archive's raw results as the runs left them, each of UNPACKED whole; return the number of runs.

    folder: an archive that `check` has passed. Raises StudyError when it holds other runs than its study
    asks for, or lacks what the later stages read.
    """
    found = read(folder)
    about, records = found.about, found.records
    _refuse_others(folder / "records.parquet", "run", records, [spec.path for spec in study.runs()])
    needed = dict.fromkeys(_about_names(study))
    _refuse_others(folder / "about.json", "file", about, [n for n in needed if n in about or not _is_optional(n)])
    for top in UNPACKED:
        with files.whole_folder(output / top) as place:
            for name, value in about.items():
                if name.startswith(f"{top}/"):
                    files.write_json(place / name.removeprefix(f"{top}/"), value)
            if top == "runs":
                for name, row in records.items():
                    _unpack_run(place / name, row, found.histories.get(name), found.answers.get(name))
    files.write_json(output / "study.json", configuration(folder), sort_keys=False)
    return len(records)


def _unpack_run(place: Path, row: dict[str, str], history: pa.Table | None, answers: pa.Table | None) -> None:
    from pyarrow import parquet

    for name in JSON_FILES:
        files.write_json(place / name, json.loads(row[name.removesuffix(".json")]))
    rows = history.to_pylist() if history is not None else []
    for entry in rows:
        entry |= {name: int(entry[name]) for name in WHOLE_NUMBERS if entry.get(name) is not None}
    columns = history.column_names if history is not None else WHOLE_NUMBERS
    write_rows(place / "history.csv", rows, columns)
    if answers is not None:
        with files.whole(place / "predictions.parquet") as temporary:
            parquet.write_table(answers, temporary, compression="zstd")


def _by_run(table: pa.Table) -> dict[str, pa.Table]:
    """Return a table's rows by their run, in their order, without the column that names it."""
    import numpy as np
    import pyarrow as pa

    if not len(table):
        return {}
    names = table["run"].cast(pa.string()).to_numpy()
    table = table.drop_columns("run")
    starts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1)]
    return {names[a]: table.slice(a, b - a) for a, b in zip(starts, [*starts[1:], len(names)], strict=True)}


def _refuse_others(path: Path, kind: str, found: dict[str, Any], wanted: list[str]) -> None:
    for name in wanted:
        if name not in found:
            raise StudyError(f"{path}: holds no {kind} {name}, which the report needs; archive the study anew.")
    for name in found:
        if name not in wanted:
            raise StudyError(f"{path}: the {kind} {name} is none of the study's; fetch the archive again.")


def _record(name: str, folder: Path) -> dict[str, str]:
    """Return a run's JSON files as text, without the checksums of the files beside them: here they are rows."""
    found = {file.removesuffix(".json"): read_whole(folder, file) for file in JSON_FILES}
    for content in found.values():
        content.pop("files", None)
    return {"run": name} | {kind: json.dumps(content, sort_keys=True) for kind, content in found.items()}


def _history(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    for row in read_rows(folder / "history.csv"):
        kinds = {key: int if key in WHOLE_NUMBERS else float for key in row}
        yield {"run": name} | {key: kinds[key](value) if value else None for key, value in row.items()}


def predictions(runs: Iterable[RunSpec], results: Path) -> dict[str, pa.Table]:
    """Return the tables of predictions by the names of their files: what an answer is depends on the task."""
    from pyarrow import parquet

    return by_task((spec, parquet.read_table(results / "runs" / spec.path / "predictions.parquet")) for spec in runs)


def by_task(answers: Iterable[tuple[RunSpec, pa.Table]]) -> dict[str, pa.Table]:
    """Return the runs' answers as the tables of an archive, the runs' names in front."""
    import pyarrow as pa

    by_task: dict[str, list[pa.Table]] = {}
    for spec, table in answers:
        names = pa.array([spec.path] * len(table)).dictionary_encode()
        table = table.add_column(0, "run", names.cast(pa.dictionary(pa.int32(), pa.string()))).unify_dictionaries()
        by_task.setdefault(spec.task, []).append(table)
    return {
        "predictions" if len(by_task) == 1 else f"predictions-{task}": pa.concat_tables(
            tables, promote_options="default"
        )
        for task, tables in by_task.items()
    }


def _about(study: Study, results: Path) -> dict[str, Any]:
    """Return the JSON files of what the runs were made from, by their paths within the study's results."""
    names = _about_names(study)
    return {
        name: files.read_json(results / name) for name in names if (results / name).exists() or not _is_optional(name)
    }


def _about_names(study: Study) -> list[str]:
    names = [
        name
        for dataset, split, backbone, methods in study.cells()
        for name in (
            f"sources/{dataset.source}/manifest.json",
            f"splits/{dataset.name}/examples.json",
            f"splits/{dataset.name}/{split}/split.json",
            f"metrics/baselines/{dataset.name}/{split}.json",
            f"tokens/{dataset.name}/{backbone.name}/tokens.json",
            *(f"runs/{dataset.name}/{split}/{backbone.name}/{method.name}/search.json" for method in methods),
        )
    ]
    names += [f"backbones/{backbone}/manifest.json" for backbone in study.backbones]
    return list(dict.fromkeys(names))


def _is_optional(name: str) -> bool:
    """Whether a study may lack the file: a search where there was one rate, a source that was removed since."""
    return name.endswith("/search.json") or name.startswith("sources/")
