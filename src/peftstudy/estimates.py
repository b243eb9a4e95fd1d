"""How long runs take: by finished ones of the same backbone, by the study's guess before there are any."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from peftstudy import files
from peftstudy.errors import StudyError
from peftstudy.metrics import asked_of
from peftstudy.specs import RunSpec, several
from peftstudy.study import Pack, Study

SAMPLE = 25
"""Records of a backbone that are read to size jobs: each job's Snakemake parses the workflow again."""


@dataclass
class Estimates:
    """Seconds and joules a run, by the finished runs that are most like it.

    study: whose guess is taken for a run before one of its backbone has finished.
    """

    study: Study
    sums: dict[tuple[str, ...], list[float]] = field(default_factory=dict)
    joules: dict[tuple[str, ...], list[float]] = field(default_factory=dict)

    def add(self, asked: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
        """Take a finished run into account."""
        seconds = measured["setup_seconds"] + measured["training_seconds"] + measured["evaluation_seconds"]
        on_device = measured.get("device", "cpu") != "cpu"
        joules = measured.get("device_joules" if on_device else "processor_joules")
        for key in _keys(asked["backbone"], asked["dataset"], asked["split"], asked["method"]):
            total = self.sums.setdefault(key, [0.0, 0.0])
            total[0] += seconds
            total[1] += 1
            if joules is not None:
                self.joules.setdefault(key, []).append(joules)

    def run_seconds(self, run: RunSpec) -> float:
        """Return the mean of the method on the split; else of the split; else of the backbone; else the guess."""
        for key in _keys(run.backbone, run.dataset, run.split, run.method):
            if key in self.sums:
                return self.sums[key][0] / self.sums[key][1]
        return 60 * self.study.minutes_of(run.backbone)

    def run_joules(self, run: RunSpec) -> float | None:
        """Return the mean of the method on the split, of the split or of the backbone; None where no counter was."""
        keys = _keys(run.backbone, run.dataset, run.split, run.method)
        found = next((self.joules[key] for key in keys if key in self.joules), None)
        return found and sum(found) / len(found)

    def is_measured(self, backbone: str) -> bool:
        return (backbone,) in self.sums

    def seconds(self, runs: Iterable[RunSpec], results: Path) -> float:
        """Return what runs take one after another, the trials of their cells with them, where none have chosen yet.

        results: the study's folder.
        """
        runs = list(runs)
        searching = {run.cell: run for run in runs if several(run.training.learning_rate)}
        trials = sum(
            self.trials_seconds(run)
            for cell, run in searching.items()
            if not (results / "runs" / cell / "search.json").exists()
        )
        return trials + sum(map(self.run_seconds, runs))

    def trials_seconds(self, run: RunSpec) -> float:
        """Return what the trials before a cell's first run take: at the most so long as a run each."""
        epochs = run.training.epochs if run.training.steps is None and run.training.seconds is None else 0
        share = min(1.0, run.search.epochs / epochs) if epochs else 1.0
        return len(run.training.learning_rate) * share * self.run_seconds(run)

    def pack_seconds(self, pack: Pack) -> float:
        return self.seconds(pack.runs, Path("results") / self.study.name)


def _keys(backbone: str, dataset: str, split: str, method: str) -> list[tuple[str, ...]]:
    return [(backbone, dataset, split, method), (backbone, dataset, split), (backbone,)]


_sampled: dict[str, Estimates] = {}


def sampled(study: Study) -> Estimates:
    """Return the estimates by some finished runs of each backbone, read once a process."""
    if study.name not in _sampled:
        found = _sampled[study.name] = Estimates(study)
        runs = study.runs()
        for backbone in study.backbones:
            own = [run for run in runs if run.backbone == backbone]
            for record in islice(_finished(Path("results") / study.name / "runs", own), SAMPLE):
                found.add(record["asked"], record["measured"])
    return _sampled[study.name]


def _finished(root: Path, runs: Iterable[RunSpec]) -> Iterator[Mapping[str, Any]]:
    """Yield the records of those runs that have finished as they are asked for now."""
    for run in runs:
        with suppress(StudyError):  # none there, or being replaced; metrics tell of damaged ones
            record = files.read_json(root / run.path / "record.json")
            if record["status"] == "finished" and asked_of(record) == run:
                yield record
