"""Where the spread of scores comes from: the draw of the data, the seed, what the methods share, the test part."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from peftstudy import tasks
from peftstudy.evidence import apart
from peftstudy.evidence.components import components, is_crossed
from peftstudy.evidence.components import spread as of_seeds
from peftstudy.evidence.places import backbones, of
from peftstudy.study import Study

COLUMNS = ["dataset", "split", "backbone", "method", "draws", "seeds", "sd", "low", "high", "draw", "over_seeds",
           "rest", "test_part", "common"]  # fmt: skip
COUNTED = ("accuracy", "exact_match")
"""Metrics that are the mean of right and wrong answers to examples, but for tasks that label each of their words."""


class Components(NamedTuple):
    """Variances of a two-way table: between its rows, between its columns, and what neither explains."""

    rows: float
    columns: float
    rest: float


def two_way(values: np.ndarray) -> Components:
    """Return the variance components of a table of random rows and random columns, one value a cell.

    values: shape (rows, columns), two or more of each. Estimates by the mean squares of the analysis of
    variance; one that would be negative is 0. Source: Searle, Casella and McCulloch (1992), chapter 4.

    >>> two_way(np.array([[1.0, 2.0], [3.0, 4.0]]))
    Components(rows=2.0, columns=0.5, rest=0.0)
    """
    rows, columns = np.indices(values.shape).reshape(2, -1)
    return Components(*(max(0.0, found) for found in components(values.ravel(), rows, columns).tolist()))


def draws(study: Study, shortened: bool = False) -> dict[str, list[str]]:
    """Return the study's datasets that differ in the seed of their draw alone, by the first of them.

    shortened: or in what their runs are given of them, in length or time.
    """
    found: dict[str, list[str]] = {}
    kinds: dict = {}
    for name, dataset in study.datasets.items():
        drawn = dataset.without_length() if shortened else dataset
        first = kinds.setdefault(replace(drawn, name="", data_seed=None), name)
        found.setdefault(first, []).append(name)
    return found


def spread(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return standard deviations of the scores of each method, a row for each draw's dataset, split and backbone.

    sd: over seeds, within a draw, with its 95 % interval (low, high) by the chi-squared distribution, for scores
    that are normal. draw, seed, rest: the components of the table of draws and seeds, where there are two draws or
    more. test_part: what other test examples of that number would add, of the metrics in COUNTED. common: the share
    of the variance over seeds that is the same for all methods, which pairing by seed takes away. The columns of
    apart.COLUMNS have values where the study crosses initialisations with orders; sd then has no interval.
    """
    rows = []
    done = runs[(runs.status == "finished") & runs.test_score.notna()]
    for first, names in draws(study).items():
        for split in study.splits:
            for backbone in backbones(study, split):
                here = done[done.dataset.isin(names) & (done.split == split) & (done.backbone == backbone)]
                where = {"dataset": first, "split": split, "backbone": backbone, "common": common(here)}
                rows += [where | row for row in _of_methods(here, study)]
    more = apart.COLUMNS if min(apart.levels(study)) > 1 else []
    return pd.DataFrame(rows, columns=[*COLUMNS, *more])


def _of_methods(runs: pd.DataFrame, study: Study) -> Iterator[dict]:
    for method in study.methods:
        found = of(runs, method=method)
        table = found.pivot(index="dataset", columns="seed", values="test_score")
        if len(found) and is_crossed(table.columns):
            yield {"method": method, "draws": len(table), "seeds": table.shape[1], "sd": _crossed_sd(table),
                   "test_part": test_part(found)} | apart.parts(found)  # fmt: skip
            continue
        within = table.sub(table.mean(axis=1), axis=0).stack().dropna()
        freedom = len(within) - len(table)
        if not freedom:
            continue
        squares = float((within**2).sum())
        # Scores that are all alike say nothing of how far others would spread.
        bound = np.sqrt(squares / stats.chi2.ppf([0.975, 0.025], freedom)) if squares > 1e-18 else (None, None)
        row = {"method": method, "draws": len(table), "seeds": table.shape[1], "sd": (squares / freedom) ** 0.5,
               "low": bound[0], "high": bound[1], "test_part": test_part(found)}  # fmt: skip
        whole = table.dropna(axis=1)
        if min(whole.shape) > 1:
            row |= dict(zip(("draw", "over_seeds", "rest"), np.sqrt(two_way(whole.to_numpy())), strict=True))
        yield row


def _crossed_sd(table: pd.DataFrame) -> float | None:
    """Return the standard deviation of runs whose seeds are all their own, within a draw."""
    found = [of_seeds(row.to_numpy(), row.index) for row in (row.dropna() for _, row in table.iterrows())]
    known = [float(spread.sd) ** 2 for spread in found if spread is not None]
    return float(np.mean(known)) ** 0.5 if known else None


def common(runs: pd.DataFrame) -> float | None:
    """Return the share of the variance over seeds that all methods of a place have in common, within draws."""
    parts = []
    for _, found in runs.groupby("dataset"):
        table = found.pivot(index="method", columns="seed", values="test_score").dropna()
        if min(table.shape, default=0) > 1:
            parts.append(two_way(table.to_numpy())[1:])
    shared, rest = np.mean(parts, axis=0) if parts else (0.0, 0.0)
    return float(shared / (shared + rest)) if shared + rest > 0 else None


def is_counted(metric: str, task: str) -> bool:
    """Return whether a score is a share of the examples, so that the spread of their draw is a binomial's."""
    return metric in COUNTED and not tasks.create(task).words


def test_part(runs: pd.DataFrame) -> float | None:
    """Return the standard deviation of a run's score over draws of its test examples."""
    if not is_counted(runs.metric.iloc[0], runs.task.iloc[0]):
        return None
    return float(np.sqrt((runs.test_score * (1 - runs.test_score) / runs.test_examples).mean()))
