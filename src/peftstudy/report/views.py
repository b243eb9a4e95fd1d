"""What figures and tables look at: the rows that they show, and in which order."""

from types import SimpleNamespace

import pandas as pd

from peftstudy import statistics
from peftstudy.study import Study

METRICS = {
    "bleu": "BLEU", "cider": "CIDEr", "chrf": "chrF", "exact_match": "exact match", "f1": "F1", "f1_macro": "macro F1",
    "mcc": "Matthews correlation", "meteor": "METEOR", "nist": "NIST", "pearson": "Pearson's correlation",
    "rmse": "root mean squared error", "rouge": "ROUGE", "rouge_1": "ROUGE-1", "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L", "spearman": "Spearman's correlation",
}  # fmt: skip


class NothingToDraw(Exception):
    """Why a figure has nothing to show."""


def of(frame: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """Return the rows whose columns have the wanted values."""
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame


def one(frame: pd.DataFrame, **wanted: str) -> pd.Series | None:
    """Return the first row whose columns have the wanted values; None when there is none."""
    rows = of(frame, **wanted)
    return rows.iloc[0] if len(rows) else None


def sized(study: Study) -> list[str]:
    """Return the splits that are tested on one same part, and so may be joined to a curve over sizes."""
    drawn = [split for split in study.splits if split.startswith("size-") or split == "90-10"]
    official = [split for split in study.splits if split.startswith("official")]
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


def main_splits(study: Study) -> list[str]:
    """Return the splits that are compared as such; smaller training parts are points of a curve."""
    return [split for split in study.splits if not split.startswith(("size-", "official-"))] or list(study.splits[:1])


def first_splits(study: Study) -> str:
    """Return the split that datasets are looked at most closely on, and of those that go without it, which."""
    first = {dataset: study.first_split(dataset) for dataset in study.datasets}
    own = [f"{split} ({dataset})" for dataset, split in first.items() if split != study.splits[0]]
    return ", ".join([study.splits[0], *own])


def cells(data, study, dataset, split, backbone):
    """Yield method, scores by seed and summary of the cells that have a score."""
    found = of(data.scores, dataset=dataset, split=split, backbone=backbone).dropna(subset=["test_score"])
    for method in study.methods:
        for row in of(found, method=method).itertuples():
            runs = of(data.runs, dataset=dataset, split=split, backbone=backbone, method=method)
            yield method, statistics.scores_by_seed(runs), row


def shown(data, dataset, splits, columns, baselines: bool = True) -> list[float]:
    """Return the scores that a figure has dots and lines for, which set its limits."""
    runs = of(data.runs, dataset=dataset, status="finished")
    runs = runs[runs.split.isin(splits) & runs.backbone.isin(columns)]
    if not len(runs):
        raise NothingToDraw(f"no run on {', '.join(splits)} has finished")
    lines = of(data.baselines, dataset=dataset)
    lines = lines[lines.split.isin(splits)] if baselines else lines.head(0)
    return [*runs.test_score.dropna(), *lines.test_score.dropna()]


def measure(data: SimpleNamespace, dataset: str | None = None) -> str:
    """Return the name of a dataset's main metric, as it is written out, or of the study's, where it has one."""
    runs = data.runs if dataset is None else of(data.runs, dataset=dataset)
    metrics = [*dict.fromkeys(runs.metric.dropna()), "score"]  # a run that failed may not name it
    if len(metrics) > 2:
        return "the main metric of each dataset"
    return METRICS.get(metrics[0], metrics[0])


def selection_rule(study: Study) -> str:
    """Return which epoch's model is reported, as tables name it."""
    if study.training.select == "best":
        return "the epoch with the best validation score"
    return "the last epoch"


def finished_epochs(runs: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return the epochs of the runs that finished: those of the others would bend the means."""
    keys = [*statistics.CELL, "seed"]
    # Where no run of two seeds has an epoch, its file holds numbers alone.
    epochs = epochs.assign(seed=epochs.seed.astype(runs.seed.dtype))
    return epochs.merge(runs.loc[runs.status == "finished", keys], on=keys)
