"""What a score costs: which methods nothing beats in both, and which to take under a limit."""

import pandas as pd

from peftstudy.evidence import summaries

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
    trained = done.method_parameters + done.head_parameters
    return done.assign(trained=trained, memory=memory(done), joules=joules(done))


def memory(rows: pd.DataFrame) -> pd.Series:
    """Return the peak in bytes of runs, or of cells of runs, on the device where there is one."""
    return rows.peak_device_memory_bytes.astype(float).fillna(rows.peak_memory_bytes)


def joules(rows: pd.DataFrame) -> pd.Series:
    """Return the joules of what runs, or cells of runs, ran on."""
    on_device = rows.peak_device_memory_bytes.notna()
    return rows.processor_joules.astype(float).where(~on_device, rows.device_joules.astype(float))


def on_front(costs: pd.Series, scores: pd.Series) -> pd.Series:
    """Return which methods no other one beats: none scores as high for less, or higher for as little.

    >>> on_front(pd.Series([1, 2, 3]), pd.Series([0.5, 0.4, 0.6])).tolist()
    [True, False, True]
    """
    cost, value = costs.to_numpy()[:, None], scores.to_numpy()[:, None]
    beaten = ((cost >= cost.T) & (value <= value.T) & ((cost > cost.T) | (value < value.T))).any(axis=1)
    return pd.Series(~beaten & costs.notna().to_numpy(), index=costs.index)


def is_sound(cells: pd.DataFrame) -> pd.Series:
    """Return which methods finished every run, and collapsed in none."""
    return (cells.finished == cells.asked) & (cells.collapsed == 0)


def best_under(cells: pd.DataFrame, column: str, share_of_dearest: float) -> pd.Series | None:
    """Return the best method of one dataset, split and backbone that keeps within a limit; None where none does.

    A method that lost a run, or collapsed in one, is not offered.
    """
    sound = cells[is_sound(cells)]
    # The limit is that of all methods, whether they are offered or not.
    return summaries.best(sound[sound[column] <= share_of_dearest * cells[column].max()])
