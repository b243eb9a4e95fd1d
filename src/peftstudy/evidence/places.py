"""Where scores are looked at: the backbones, splits and methods of a study, and the rows of results there."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from peftstudy.evidence import summaries
from peftstudy.study import Study


def of(frame: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """Return the rows whose columns have the wanted values."""
    chosen = np.ones(len(frame), dtype=bool)
    for column, value in wanted.items():
        chosen &= (frame[column] == value).to_numpy(dtype=bool)
    return frame[chosen]


def one(frame: pd.DataFrame, **wanted: str) -> pd.Series | None:
    """Return the first row whose columns have the wanted values; None when there is none."""
    rows = of(frame, **wanted)
    return rows.iloc[0] if len(rows) else None


def sized(study: Study, dataset: str) -> list[str]:
    """Return a dataset's splits that are tested on one same part, and so may be joined to a curve over sizes."""
    drawn = [split for split in study.splits_on(dataset) if split.startswith("size-") or split == "90-10"]
    official = [split for split in study.splits_on(dataset) if split.startswith("official")]
    return max(drawn, official, key=len)


def backbones(study: Study, split: str | None = None, dataset: str | None = None) -> list[str]:
    """Return the backbones that are shown, which are all but random twins, in the config's order.

    split, dataset: only those that are run there.
    """
    chosen = [
        backbone
        for name, backbone in study.backbones.items()
        if any(
            study.has(each, cut, name)
            for each in ([dataset] if dataset else study.datasets)
            for cut in ([split] if split else study.splits)
        )
    ]
    return [b.name for b in chosen if not b.random] or [b.name for b in chosen]


def methods_on(study: Study, dataset: str) -> list[str]:
    """Return the methods that are run on a dataset, in the config's order."""
    asked = {method.name for of, _, _, chosen in study.cells() if of.name == dataset for method in chosen}
    return [name for name in study.methods if name in asked]


def main_splits(study: Study, dataset: str) -> list[str]:
    """Return a dataset's splits that are compared as such; smaller training parts are points of a curve."""
    splits = study.splits_on(dataset)
    return [split for split in splits if not split.startswith(("size-", "official-"))] or splits[:1]


def on_splits(frame: pd.DataFrame, study: Study, chosen: Callable[[Study, str], list[str]]) -> pd.DataFrame:
    """Return the rows on those splits that are chosen of their dataset: main_splits, or those that are sized."""
    kept = {(dataset, split) for dataset in study.datasets for split in chosen(study, dataset)}
    is_kept = [place in kept for place in zip(frame.dataset, frame.split, strict=True)]
    return frame[pd.Series(is_kept, index=frame.index, dtype=bool)]


def first_splits(study: Study) -> str:
    """Return the split that datasets are looked at most closely on, and of those that go without it, which."""
    first = {dataset: study.first_split(dataset) for dataset in study.datasets}
    own = [f"{split} ({dataset})" for dataset, split in first.items() if split != study.splits[0]]
    return ", ".join([study.splits[0], *own])


def finished_epochs(runs: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return the epochs of the runs that finished: those of the others would bend the means."""
    keys = [*summaries.CELL, "seed"]
    # Where no run of two seeds has an epoch, its file holds numbers alone.
    epochs = epochs.assign(seed=epochs.seed.astype(runs.seed.dtype))
    return epochs.merge(runs.loc[runs.status == "finished", keys], on=keys)
