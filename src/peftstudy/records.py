"""What a run leaves: asked, measured, provenance; beside it the history and the predictions.

A run is kept twice: whole in the study's state folder, where a workflow that stops cannot
remove it, and published from there under runs/, where the workflow looks for it.
"""

import csv
import io
import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftstudy import files
from peftstudy.errors import StudyError
from peftstudy.specs import RunSpec

TRAINED = ("record.json", "history.csv")
EVALUATED = ("test.json", "predictions.parquet")


@dataclass(frozen=True)
class Place:
    """The files of one run in its state folder."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def weights(self) -> Path:
        return self.folder / "trained.safetensors"

    def epoch_weights(self, epoch: int) -> Path:
        return self.folder / "epochs" / f"epoch-{epoch}.safetensors"

    def holds(self, name: str, key: str) -> Mapping[str, Any] | None:
        """Return the JSON file `name` when it was made for `key`; None when it is absent, broken or another's.

        A broken file was cut short by something outside (files are written whole); the run is done again.
        """
        try:
            value = files.read_json(self.folder / name)
        except StudyError:
            return None
        return value if value.get("key") == key else None

    def publish(self, names: Iterable[str], output: Path) -> None:
        """Copy the run's files to `output`, leaving those alone that are there already."""
        for name in names:
            if not _same(self.folder / name, output / name):
                with files.whole(output / name) as temporary:
                    shutil.copyfile(self.folder / name, temporary)

    def forget_weights(self) -> None:
        """Remove weights and checkpoints: what is left is small and is kept."""
        self.weights.unlink(missing_ok=True)
        self.checkpoint.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "epochs", ignore_errors=True)


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.stat().st_size == other.stat().st_size and files.sha256(one) == files.sha256(other)


def run_key(spec: RunSpec, inputs: Mapping[str, str]) -> str:
    """Return what a finished run is known by: the SHA-256 of all that was asked and of its inputs."""
    return files.sha256_json({"asked": spec.as_dict(), "inputs": dict(inputs)})


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
