"""Each method over all settings of a study, and its rank over the datasets."""

import numpy as np
import pandas as pd

from peftstudy import seeds
from peftstudy.evidence import aggregates
from peftstudy.evidence.ranks import FEWEST_DATASETS, ranks
from peftstudy.evidence.spread import draws
from peftstudy.study import Study

SETTING = ["dataset", "split", "backbone"]
OVERALL = [
    "method", "settings", "runs", "iqm", "iqm_low", "iqm_high", "reference", "improvement", "improvement_low",
    "improvement_high",
]  # fmt: skip
RANKS = ["method", "mean_rank", "datasets", "p", "critical"]


def settings(runs: pd.DataFrame, study: Study) -> dict[str, list[np.ndarray]]:
    """Return each method's scores, an array a setting: those on which every method finished a run.

    Backbones with random weights are no setting of their own: they are there to be compared with.
    """
    done = runs[runs.status == "finished"].set_index([*SETTING, "method"]).test_score.dropna().sort_index()
    places = shared(runs, study)
    return {method: [done.loc[[(*place, method)]].to_numpy() for place in places] for method in study.methods}


def shared(runs: pd.DataFrame, study: Study) -> list[tuple[str, str, str]]:
    """Return the settings on which every method finished a run, but for backbones with random weights."""
    done = runs[(runs.status == "finished") & runs.test_score.notna() & ~_of_twins(runs, study)]
    groups = done.groupby(SETTING, sort=False).method
    return [setting for setting, methods in groups if set(methods) == set(study.methods)]


def _of_twins(runs: pd.DataFrame, study: Study) -> pd.Series:
    """Return which runs are of backbones with random weights."""
    return runs.backbone.isin([name for name, backbone in study.backbones.items() if backbone.random])


def overall(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return interquartile mean and probability of improvement over the reference, with intervals, a row a method.

    There are no rows where fewer than two settings are shared by all methods.
    """
    found = settings(runs, study)
    grid = crossing(study)
    rows = []
    for method, scores in found.items():
        if len(scores) < 2:
            continue
        iqm = aggregates.with_interval(aggregates.interquartile_mean, scores, grid=grid)
        row = {"method": method, "settings": len(scores), "runs": sum(map(len, scores))}
        row |= dict(zip(("iqm", "iqm_low", "iqm_high"), iqm, strict=True))
        if study.reference and method != study.reference:
            better = aggregates.with_interval(
                aggregates.probability_of_improvement, scores, found[study.reference], grid=grid
            )
            names = ("improvement", "improvement_low", "improvement_high")
            row |= {"reference": study.reference} | dict(zip(names, better, strict=True))
        rows.append(row)
    return pd.DataFrame(rows, columns=OVERALL)


def crossing(study: Study) -> np.ndarray | None:
    """Return which of the study's seeds has which initialisation and order, shape (initialisations, orders).

    None where runs are independent; empty where they are not, and the seeds are no whole grid.
    """
    first, then = seeds.shared(study.seeds)
    if min(first, then) < 2:
        return None
    if not seeds.is_grid(study.seeds):
        return np.empty((0, 0), dtype=int)
    order = sorted(range(first * then), key=lambda i: seeds.both(study.seeds[i]))
    return np.array(order).reshape(first, then)


def rankable(study: Study) -> int:
    """Return over how many datasets all methods can be ranked; budgets on one dataset, and draws of it, are one."""
    origin = {name: first for first, names in draws(study, shortened=True).items() for name in names}
    whole = {
        origin[dataset.name]
        for dataset, split, backbone, chosen in study.cells()
        if split == study.first_split(dataset.name) and len(chosen) == len(study.methods) and not backbone.random
    }
    return len(whole)


def ranked(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return the methods' mean ranks over datasets, best first; none where there are fewer than FEWEST_DATASETS.

    A dataset's score is the mean over its first split and the backbones that all methods share, but for those with
    random weights. Draws of one dataset, and budgets on it, are one: they are not independent.
    """
    first = runs.dataset.map({name: study.first_split(name) for name in study.datasets})
    done = runs[(runs.status == "finished") & (runs.split == first) & ~_of_twins(runs, study)]
    cells = done.groupby(["dataset", "backbone", "method"]).test_score.mean().unstack()
    origin = {name: first for first, names in draws(study, shortened=True).items() for name in names}
    scores = cells.reindex(columns=list(study.methods)).dropna().rename(index=origin, level="dataset")
    scores = scores.groupby("dataset").mean()
    if len(scores) < FEWEST_DATASETS or len(study.methods) < 2:
        return pd.DataFrame(columns=RANKS)
    found = ranks(scores)
    return pd.DataFrame(
        {"method": found.mean.index, "mean_rank": found.mean.to_numpy(), "datasets": found.datasets, "p": found.p,
         "critical": found.critical}
    )  # fmt: skip
