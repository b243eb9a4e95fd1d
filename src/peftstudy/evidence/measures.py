"""The measures that claims are about: each a series by seed, of one dataset, split, backbone and method."""

from collections.abc import Callable

import pandas as pd

from peftstudy.evidence import bargains
from peftstudy.evidence.claims import Term
from peftstudy.evidence.places import finished_epochs
from peftstudy.evidence.summaries import CELL
from peftstudy.metrics import SCORES

NEAR = 0.01
"""A score so near to the best epoch's counts as converged."""
CERTAIN = ("memory", "peak_memory_bytes", "peak_device_memory_bytes", "method_parameters", "head_parameters",
           "backbone_parameters", "stored_bytes", "steps", "train_examples")  # fmt: skip
"""Counts: chance has no part in them, so seeds that agree leave no doubt."""
LEARNED = ("score", "validation_score", "first_score", "epochs_to_converge", "deviation",
           *(name.removeprefix("test_") for name in SCORES))  # fmt: skip
"""Measures of the answers, which say nothing of a method whose every run gives all examples one answer."""


class Results:
    """The finished runs of a study and their epochs, asked by cell; every answer is a series by seed."""

    def __init__(self, runs: pd.DataFrame, epochs: pd.DataFrame):
        done = runs[runs.status == "finished"]
        self.asked = runs.groupby(CELL).size().to_dict()
        self.runs = {cell: group.set_index("seed").sort_index() for cell, group in done.groupby(CELL)}
        self.epochs = dict(iter(finished_epochs(runs, epochs).groupby(CELL)))

    def of(self, term: Term, dataset: str, split: str, backbone: str) -> pd.Series:
        """Return the measure of a term; empty where nothing was measured. What the term leaves open is given."""
        cell = (dataset, term.split or split, term.backbone or backbone, term.method)
        if cell not in self.runs:
            return pd.Series(dtype=float)
        if term.measure in MEASURES:
            return MEASURES[term.measure](self, cell).dropna()
        column = next(name for name in (term.measure, f"test_{term.measure}") if name in self.runs[cell])
        return self.runs[cell][column].dropna().astype(float)

    def collapsed(self, term: Term, dataset: str, split: str, backbone: str) -> tuple[int, int]:
        """Return how many runs behind a measure of answers collapsed, and of how many; 0 of 0 for other measures."""
        cell = (dataset, term.split or split, term.backbone or backbone, term.method)
        if cell not in self.runs or term.measure not in LEARNED:
            return 0, 0
        found = self.runs[cell].collapsed
        return int(found.sum()), len(found)

    def lost(self, term: Term, dataset: str, split: str, backbone: str) -> tuple[int, int]:
        """Return how many runs behind a measure did not finish, and of how many; 0 of 0 for counts that are CERTAIN."""
        if term.measure in CERTAIN:
            return 0, 0
        cell = (dataset, term.split or split, term.backbone or backbone, term.method)
        asked = self.asked.get(cell, 0)
        return asked - len(self.runs.get(cell, ())), asked

    def curve(self, name: str, cell: tuple[str, ...]) -> pd.DataFrame:
        """A measure after each epoch, shape (epochs, seeds)."""
        epochs = self.epochs.get(cell)
        return pd.DataFrame() if epochs is None else epochs.pivot(index="epoch", columns="seed", values=name)

    def held_out(self, cell: tuple[str, ...]) -> pd.DataFrame:
        """The score on the held-out part after each epoch: on test where it was logged, else on validation."""
        curve = self.curve("test_score", cell)
        return curve if len(curve) and curve.notna().all(axis=None) else self.curve("validation_score", cell)


def score(results: Results, cell: tuple[str, ...]) -> pd.Series:
    """The main metric on test."""
    return results.runs[cell].test_score


def epoch_seconds(results: Results, cell: tuple[str, ...]) -> pd.Series:
    """Seconds of training an epoch."""
    return results.runs[cell].training_seconds / results.runs[cell].epochs


def memory(results: Results, cell: tuple[str, ...]) -> pd.Series:
    """The peak in MB, on the device where there is one."""
    return bargains.memory(results.runs[cell]) / 1e6


def energy(results: Results, cell: tuple[str, ...]) -> pd.Series:
    """The joules of training and evaluation, of the device where there is one, else of the processors."""
    return bargains.joules(results.runs[cell])


def first_score(results: Results, cell: tuple[str, ...]) -> pd.Series:
    """The held-out score after the first epoch."""
    return _at(results.held_out(cell), 0)


def last_loss(results: Results, cell: tuple[str, ...]) -> pd.Series:
    """The training loss of the last epoch."""
    return _at(results.curve("training_loss", cell), -1)


def loss_fall(results: Results, cell: tuple[str, ...]) -> pd.Series:
    """How far the training loss falls from the first epoch to the last."""
    curve = results.curve("training_loss", cell)
    return _at(curve, 0) - _at(curve, -1)


def epochs_to_converge(results: Results, cell: tuple[str, ...]) -> pd.Series:
    """The first epoch whose held-out score comes within NEAR of the best one."""
    curve = results.held_out(cell).dropna(axis="columns", how="all")
    return (curve >= curve.max() - NEAR).idxmax().astype(float) if curve.size else pd.Series(dtype=float)


def deviation(results: Results, cell: tuple[str, ...]) -> pd.Series:
    """How far the score lies from the median over the seeds (Brown and Forsythe, 1974)."""
    scores = results.runs[cell].test_score
    return (scores - scores.median()).abs() if len(scores) > 1 else pd.Series(dtype=float)


def _at(curve: pd.DataFrame, epoch: int) -> pd.Series:
    return curve.iloc[epoch] if len(curve) else pd.Series(dtype=float)


MEASURES: dict[str, Callable[[Results, tuple[str, ...]], pd.Series]] = {
    "score": score, "epoch_seconds": epoch_seconds, "memory": memory, "energy": energy, "first_score": first_score,
    "last_loss": last_loss, "loss_fall": loss_fall, "epochs_to_converge": epochs_to_converge,
    "deviation": deviation,
}  # fmt: skip
