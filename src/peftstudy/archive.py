"""runs -> archive: a finished study's raw results in a few small files, known by their checksums."""

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from peftstudy import files
from peftstudy.errors import StudyError
from peftstudy.metrics import read_rows
from peftstudy.records import read_whole
from peftstudy.specs import RunSpec
from peftstudy.study import Study

JSON_FILES = ("record.json", "test.json")


def write(study: Study, results: Path, output: Path) -> dict[str, Any]:
    """Write the raw results of every run that the study asks for; return the manifest.

    records.parquet: a row a run, its name and its JSON files as text. histories.parquet,
    predictions.parquet: the runs' rows, with the name in front; predictions have a file for each task,
    predictions-regression.parquet, where there are several. about.json: what the runs were made
    from (sizes, labels, checksums of splits, tokens, backbones; baselines; searches). study.json: the
    resolved configuration, without the folder of this machine's files. Raises StudyError when a run is missing.
    """
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
    with files.whole_folder(output) as folder:
        for name, table in tables.items():
            parquet.write_table(table, folder / f"{name}.parquet", compression="zstd", compression_level=19)
        files.write_json(folder / "about.json", _about(study, results))
        config = files.read_json(results / "study.json")
        files.write_json(folder / "study.json", config | ({"folder": None} if "folder" in config else {}))
        if (output / "README.md").exists():
            shutil.copyfile(output / "README.md", folder / "README.md")  # written by hand
        manifest = {
            "study": study.name,
            "runs": len(runs),
            "files": [files.file_entry(path) for path in sorted(folder.iterdir()) if path.name != "README.md"],
        }
        files.write_json(folder / "manifest.json", manifest)
    return manifest


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
    return manifest


def _record(name: str, folder: Path) -> dict[str, str]:
    texts = {file.removesuffix(".json"): json.dumps(read_whole(folder, file), sort_keys=True) for file in JSON_FILES}
    return {"run": name, **texts}


def _history(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    for row in read_rows(folder / "history.csv"):
        yield {"run": name} | {key: float(value) if value else None for key, value in row.items()}


def predictions(runs: Iterable[RunSpec], results: Path) -> dict[str, pa.Table]:
    """Return the tables of predictions by the names of their files: what an answer is depends on the task."""
    by_task: dict[str, list[pa.Table]] = {}
    for spec in runs:
        table = parquet.read_table(results / "runs" / spec.path / "predictions.parquet")
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
    names = dict.fromkeys(
        name
        for dataset, split, backbone, methods in study.cells()
        for name in (
            f"sources/{dataset.source}/manifest.json",
            f"splits/{dataset.name}/examples.json",
            f"splits/{dataset.name}/{split}/split.json",
            f"metrics/baselines/{dataset.name}/{split}.json",
            f"tokens/{dataset.name}/{backbone.name}/tokens.json",
            f"backbones/{backbone.name}/manifest.json",
            *(f"runs/{dataset.name}/{split}/{backbone.name}/{method.name}/search.json" for method in methods),
        )
    )
    return {name: files.read_json(results / name) for name in names if (results / name).exists()}
