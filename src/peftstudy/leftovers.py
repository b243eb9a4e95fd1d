"""What a start that was interrupted leaves in runs/: records and test scores that are not of what is asked now.

Snakemake puts the earlier outputs of a job back when it fails or is stopped, newer than its inputs, and forgets what
they were made from. The next start would take them for this request's, so they are looked through before it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from peftstudy import files
from peftstudy.errors import StudyError
from peftstudy.metrics import asked_of
from peftstudy.records import evaluation_key
from peftstudy.study import Pack, Study

READING = (
    "archive", "containerize", "d3dag", "dag", "detailed_summary", "dryrun", "filegraph", "generate_unit_tests", "lint",
    "list_changes", "list_conda_envs", "list_input_changes", "list_params_changes", "list_rules", "list_target_rules",
    "list_untracked", "print_compilation", "rulegraph", "summary", "unlock",
)  # fmt: skip
"""Snakemake's options with which it runs no job, as its parser calls them."""


def stale(study: Study, results: Path) -> Iterator[Path]:
    """Yield the published files that are of another request, of other inputs, or of another training than the record's.

    results: the study's folder. Inputs that are not there cannot tell; damaged files are told of by the next stage.
    """
    for pack in study.packs():
        inputs = dict(_inputs(pack, results))
        for spec in pack.runs:
            folder = results / "runs" / spec.path
            record, test = (_read(folder / name) for name in ("record.json", "test.json"))
            is_stale = record is not None and (asked_of(record) != spec or not _is_made_from(record, inputs, results))
            if is_stale:
                yield folder / "record.json"
            if test is not None and (is_stale or record is None or not _is_of(test, record, inputs)):
                yield folder / "test.json"


def remove(paths: Iterable[Path]) -> None:
    """Remove published files; what is whole in the state folder comes back from there."""
    for path in paths:
        path.unlink(missing_ok=True)


def is_locked(study: str, locks: Path = Path(".snakemake/locks")) -> bool:
    """Return whether a Snakemake is at a study, or was killed at it: its locks name the files that it makes."""
    found = (line for path in locks.glob("*") for line in path.read_text(encoding="utf-8").splitlines())
    return any(line.startswith(f"results/{study}/") for line in found)


def only_reads(arguments: Sequence[str]) -> bool:
    """Return whether a command line of Snakemake's lists, draws or tells something, and runs no job."""
    from snakemake.cli import get_argument_parser

    asked, _ = get_argument_parser().parse_known_args(arguments)
    return asked.executor == "dryrun" or any(getattr(asked, name) for name in READING)


def is_outdated(resolved: Path, config: Mapping[str, Any]) -> bool:
    """Return whether a resolved configuration is there, and another one than that of now."""
    return resolved.exists() and _read(resolved) != json.loads(json.dumps(config))


def _inputs(pack: Pack, results: Path) -> Iterator[tuple[str, str]]:
    """Yield what is there now of a pack's inputs, by the names that records have for them: its SHA-256."""
    split = results / "splits" / pack.dataset / pack.split
    manifests = {
        "tokens": results / "tokens" / pack.dataset / pack.backbone / "tokens.json",
        "backbone": results / "backbones" / pack.backbone / "manifest.json",
    }
    for name, path in manifests.items():
        if (found := _read(path)) is not None:
            yield name, found["sha256"]
    for name in ("train", "validation", "test"):
        if (path := split / f"{name}.npy").exists():
            yield name, files.sha256(path)


def _is_made_from(record: Mapping[str, Any], inputs: Mapping[str, str], results: Path) -> bool:
    made_from = record["provenance"]["inputs"]
    if any(made_from.get(name, digest) != digest for name, digest in inputs.items() if name != "test"):
        return False
    origins = {name: results / name / "record.json" for name in made_from if name.startswith("runs/")}
    return all((now := _read(path)) is None or now["key"] == made_from[name] for name, path in origins.items())


def _is_of(test: Mapping[str, Any], record: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
    return "test" not in inputs or test.get("key") == evaluation_key(record, inputs["test"])


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return files.read_json(path)
    except StudyError:
        return None
