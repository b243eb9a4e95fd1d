"""What a score costs: which methods nothing beats in both, and which to take under a limit."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from peftstudy import statistics
from peftstudy.report.captions import rule
from peftstudy.report.latex import NONE, bounds, count, escape, floating, score, share, tabular
from peftstudy.report.views import backbones, first_splits, of
from peftstudy.study import Study

COSTS = {
    "trained parameters": ("trained", (0.1, 0.01)),
    "training time": ("training_seconds", (0.9, 0.75)),
    "peak memory": ("memory", (0.9, 0.75)),
    "energy": ("joules", (0.9, 0.75)),
    "storage": ("stored_bytes", (0.1, 0.01)),
}
"""What may be limited -> its column, and the limits, as shares of what the dearest method takes."""


def costed(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that have a score, with costs of their own.

    trained: parameters, the head's included. memory: bytes, the device's where there is one. joules: the device's
    where there is one, else the processors'; NaN where no counter says.
    """
    done = scores[scores.finished > 0]
    memory = done.peak_device_memory_bytes.astype(float).fillna(done.peak_memory_bytes)
    trained = done.method_parameters + done.head_parameters
    return done.assign(trained=trained, memory=memory, joules=joules(done))


def joules(rows: pd.DataFrame) -> pd.Series:
    """Return the joules of what runs, or cells of runs, ran on."""
    on_device = rows.peak_device_memory_bytes.notna()
    return rows.processor_joules.astype(float).where(~on_device, rows.device_joules.astype(float))


def energy(runs: pd.DataFrame) -> str:
    """Return in a sentence what the joules of runs are of, or why there are none."""
    done = runs[runs.status == "finished"]
    known = joules(done).notna()
    if not known.any():
        why = ", ".join(sorted(done.energy_absent.dropna().unique())) or "the records do not say why"
        return f"Energy is not known ({escape(why)})."
    whose = (
        "the device"
        if done[known].peak_device_memory_bytes.notna().any()
        else "the processors, shared out by busy time"
    )
    of = "" if known.all() else f" of {count(known.sum())} of {count(len(known))} runs; the others have no count"
    return f"Energy: of training and evaluation, by the counters of {whose}{of}."


def on_front(costs: pd.Series, scores: pd.Series) -> pd.Series:
    """Return which methods no other one beats: none scores as high for less, or higher for as little.

    >>> on_front(pd.Series([1, 2, 3]), pd.Series([0.5, 0.4, 0.6])).tolist()
    [True, False, True]
    """
    cost, value = costs.to_numpy()[:, None], scores.to_numpy()[:, None]
    beaten = ((cost >= cost.T) & (value <= value.T) & ((cost > cost.T) | (value < value.T))).any(axis=1)
    return pd.Series(~beaten & costs.notna().to_numpy(), index=costs.index)


def best_under(cells: pd.DataFrame, column: str, share_of_dearest: float) -> pd.Series | None:
    """Return the best method of one dataset, split and backbone that keeps within a limit; None where none does.

    A method that lost a run, or collapsed in one, is not offered.
    """
    sound = cells[(cells.finished == cells.asked) & (cells.collapsed == 0)]
    # The limit is that of all methods, whether they are offered or not.
    return statistics.best(sound[sound[column] <= share_of_dearest * cells[column].max()])


def table(tables: SimpleNamespace, study: Study, methods) -> str:
    """Return which method to take under which limit, on their first split, a column for each dataset and backbone."""
    splits = {dataset: study.first_split(dataset) for dataset in study.datasets}
    places = [(dataset, backbone) for dataset, split in splits.items() for backbone in backbones(study, split, dataset)]
    cells = [costed(of(tables.scores, dataset=d, split=splits[d], backbone=b)) for d, b in places]
    cells_of = {place: found for place, found in zip(places, cells, strict=True) if len(found)}
    limits = [("none", "trained", np.inf)]
    limits += [(f"{name} at most {share(of_dearest)}", column, of_dearest)
               for name, (column, parts) in COSTS.items() for of_dearest in parts]  # fmt: skip
    floats = []
    for start in range(0, len(cells_of), 3):
        beside = list(cells_of.items())[start : start + 3]
        rows = [
            [name, *(cell(best_under(found, column, part)) for _, found in beside)] for name, column, part in limits
        ]
        rows = [row for row in rows if any(text != NONE for text in row[1:])] or rows[:1]
        heads = [escape(b if len(study.datasets) == 1 else f"{d}, {b}") for (d, b), _ in beside]
        label = f"best-under-{len(floats) + 1}" if floats else "best-under"
        floats.append(floating(tabular("l" * (1 + len(beside)), [["limit", *heads]], rows), caption(study), label))
    return "\n".join(floats) or floating("No run has finished.", caption(study), "best-under")


def caption(study: Study) -> str:
    return (
        f"Which method to take on {escape(first_splits(study))} when a cost is limited to a share of what the dearest "
        r"method takes: the best mean among those that keep within it, with its 95\,\% interval. Methods that lost a "
        f"run, or collapsed in one, are not offered; limits that none keeps are left out. {rule(study)}"
    )


def cell(row: pd.Series | None) -> str:
    return NONE if row is None else f"{escape(row.method)} {score(row.test_score)} {bounds(row.low, row.high)}".rstrip()
