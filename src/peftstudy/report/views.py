"""What figures and tables show of the results, and the names that they have for it."""

from types import SimpleNamespace

import pandas as pd

from peftstudy.evidence import summaries
from peftstudy.evidence.places import of
from peftstudy.study import Study

METRICS = {
    "bleu": "BLEU", "cider": "CIDEr", "chrf": "chrF", "exact_match": "exact match", "f1": "F1", "f1_macro": "macro F1",
    "mcc": "Matthews correlation", "meteor": "METEOR", "nist": "NIST", "pearson": "Pearson's correlation",
    "rmse": "root mean squared error", "rouge": "ROUGE", "rouge_1": "ROUGE-1", "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L", "spearman": "Spearman's correlation",
}  # fmt: skip


class NothingToDraw(Exception):
    """Why a figure has nothing to show."""


def cells(data, study, dataset, split, backbone):
    """Yield method, scores by seed and summary of the cells that have a score."""
    found = of(data.scores, dataset=dataset, split=split, backbone=backbone).dropna(subset=["test_score"])
    for method in study.methods:
        for row in of(found, method=method).itertuples():
            runs = of(data.runs, dataset=dataset, split=split, backbone=backbone, method=method)
            yield method, summaries.scores_by_seed(runs), row


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


def took(runs: pd.DataFrame) -> float:
    """Return the seconds of setting up, training and scoring all runs, as far as they were measured."""
    return float(runs[["setup_seconds", "training_seconds", "evaluation_seconds", "test_seconds"]].sum().sum())


def selection_rule(study: Study) -> str:
    """Return which epoch's model is reported, as tables name it."""
    if study.training.select == "best":
        return "the epoch with the best validation score"
    return "the last epoch"
