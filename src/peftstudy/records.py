"""What a run leaves: asked, measured, provenance; beside it the history and the predictions.

A run is kept twice: whole in the study's state folder, where a workflow that stops cannot
remove it, and published from there under runs/, where the workflow looks for it.
"""

import csv
import io
import logging
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftstudy import files, locks
from peftstudy.errors import StudyError
from peftstudy.specs import RunSpec

log = logging.getLogger(__name__)

TRAINED = ("record.json", "history.csv")
EVALUATED = ("test.json", "predictions.parquet")


@dataclass(frozen=True)
class Place:
    """The files of one run in its state folder."""

    folder: Path

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the run: who does alone writes here, and what a killed one left half-written goes."""
        with locks.held(self.folder / "lock", self.name):
            files.forget_parts(self.folder)
            yield

    @property
    def name(self) -> str:
        """Return the run's path, for what is said of it."""
        return "/".join(self.folder.parts[-5:])

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def weights(self) -> Path:
        return self.folder / "trained.safetensors"

    def epoch_weights(self, epoch: int) -> Path:
        return self.folder / "epochs" / f"epoch-{epoch}.safetensors"

    def holds(self, name: str, key: str) -> Mapping[str, Any] | None:
        """Return the JSON file `name` when it was made for `key`; None when it is absent, damaged or another's.

        Damaged counts, too, when a file that it vouches for is. Something outside did that (files are
        written whole); the run is done again.
        """
        if not (self.folder / name).exists():
            return None
        try:
            value = read_whole(self.folder, name)
        except StudyError as error:
            log.warning("%s: found damaged, and done again (%s)", self.folder / name, error)
            return None
        return value if value.get("key") == key else None

    def seal(self, name: str, value: Mapping[str, Any], *beside: str) -> dict[str, Any]:
        """Write the JSON file `name` with its checksum and those of the files beside it; return what it holds."""
        value = {**value, "files": {other: files.sha256(self.folder / other) for other in beside}}
        files.write_sealed(self.folder / name, value)
        return value

    def publish(self, names: Iterable[str], output: Path) -> None:
        """Copy the run's files to `output`, leaving those alone that are there already."""
        for name in names:
            if not _same(self.folder / name, output / name):
                with files.whole(output / name) as temporary:
                    shutil.copyfile(self.folder / name, temporary)

    def trained(self, spec: RunSpec, output: Path) -> dict[str, Any]:
        """Return the record of a trained run; publish it again where an older one stands in its place.

        Snakemake puts the previous outputs of a job back that ends while it is interrupted, and counts the job as done.
        """
        kept, published = (files.read_sealed(path) if path.exists() else {}
                           for path in (self.folder / "record.json", output / "record.json"))  # fmt: skip
        if kept.get("asked") == spec.as_dict() and kept["key"] != published.get("key"):
            self.publish(TRAINED, output)
        return read_whole(output, "record.json")

    def forget_weights(self, but_chosen: bool = False) -> None:
        """Remove weights and checkpoints: what is left is small and is kept; or all weights but the chosen epoch's."""
        if not but_chosen:
            self.weights.unlink(missing_ok=True)
        self.checkpoint.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "epochs", ignore_errors=True)


def read_whole(folder: Path, name: str) -> dict[str, Any]:
    """Return the JSON file `name` of a run; StudyError when it or a file that it vouches for is damaged."""
    value = files.read_sealed(folder / name)
    for other, digest in value.get("files", {}).items():
        if not (folder / other).exists() or files.sha256(folder / other) != digest:
            raise StudyError(
                f"{folder / other}: damaged or gone ({name} has another checksum); delete {folder} and start again: "
                "what is whole in the state folder comes back from there."
            )
    return value


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.stat().st_size == other.stat().st_size and files.sha256(one) == files.sha256(other)


def run_key(spec: RunSpec, inputs: Mapping[str, str]) -> str:
    """Return what a finished run is known by: the SHA-256 of all that was asked and of its inputs."""
    return files.sha256_json({"asked": spec.as_dict(), "inputs": dict(inputs)})


def evaluation_key(record: Mapping[str, Any], test: str) -> str:
    """Return what the scores of a trained run are known by; test: the SHA-256 of the part that it is scored on."""
    return files.sha256_json([record["key"], record["status"], test])


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """Write rows as CSV; None and values that are not finite become empty cells."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(row.get(key)) for key in writer.fieldnames})
    files.write_text(path, text.getvalue())


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def finite(value: float | None) -> float | None:
    """Return the value, or None where it is not finite and JSON has no word for it."""
    return value if value is not None and math.isfinite(value) else None
