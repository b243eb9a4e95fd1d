"""The tables of what happened on the way: trials of learning rates, and every epoch."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from peftstudy.evidence.places import backbones, finished_epochs, of
from peftstudy.evidence.summaries import CELL
from peftstudy.report.answer import metric
from peftstudy.report.grids import ROWS, pages, pieces, spaced
from peftstudy.report.latex import absent, amount, escape, floating, group, rate, score, tabular
from peftstudy.searching import at_edge
from peftstudy.study import Study

RATES = 10
"""So many learning rates have a column of their own."""


def searches(tables: SimpleNamespace, study: Study) -> str:
    """Return the validation score of every learning rate tried, the chosen one in bold.

    A column a rate; where the cells' rates are too many for that, a column a trial, with its rate above its score.
    """
    found = tables.searches
    if found.empty:
        return "No learning rate was searched.\n"
    keys = CELL if len(study.datasets) > 1 else CELL[1:]
    cells = [
        (list(map(escape, cell[-len(keys) :])), trials, at_edge(trials))
        for cell, trials in found.groupby(CELL, sort=False)
    ]
    rates = sorted(found.learning_rate.unique())
    if len(rates) <= RATES:
        columns = list(map(rate, rates))
        parts = pieces([[*names, *by_rate(trials, rates, edge)] for names, trials, edge in cells], ROWS)
    else:
        columns = [str(number) for number in range(1, 1 + max(len(trials) for _, trials, _ in cells))]
        parts = map(spaced, pages([in_turn(names, trials, edge, len(columns)) for names, trials, edge in cells]))
    caption = (
        "Search for learning rates: the validation score of each trial; bold is the one that was taken, "
        r"$^{\dagger}$ where it is the lowest or the highest that was tried."
    )
    floats = []
    for some in parts:
        body = tabular("l" * len(keys) + "r" * len(columns), [[*keys, *columns]], some)
        floats.append(floating(body, caption, f"searches-{len(floats)}" if floats else "searches"))
    return "\n".join(floats)


def by_rate(trials: pd.DataFrame, rates: list[float], edge: bool) -> list[str]:
    best = trials.groupby("learning_rate")[["validation_score", "chosen"]].max()
    return [trial(*best.loc[value], edge) if value in best.index else "" for value in rates]


def in_turn(names: list[str], trials: pd.DataFrame, edge: bool, columns: int) -> list[list[str]]:
    """Return two rows, the rates of the trials in their order and their scores."""
    scores = zip(trials.validation_score, trials.chosen, strict=True)
    rows = [*names, *map(rate, trials.learning_rate)], [*[""] * len(names), *(trial(*pair, edge) for pair in scores)]
    return [row + [""] * (len(names) + columns - len(row)) for row in rows]


def trial(validation_score: float, chosen: bool, edge: bool) -> str:
    text = score(validation_score)
    mark = r"$^{\dagger}$" if edge else ""
    return rf"\textbf{{{text}}}{mark}" if chosen else text


def epochs(tables: SimpleNamespace, study: Study) -> str:
    """Return loss, scores and seconds after each epoch on each dataset's first split, a table for each backbone."""
    floats = []
    finished = finished_epochs(tables.runs, tables.epochs)
    for dataset in study.datasets:
        split = study.first_split(dataset)
        for backbone in backbones(study, split, dataset):
            here = of(finished, dataset=dataset, split=split, backbone=backbone)
            last = int(here.epoch.max()) if len(here) else 0
            shown = sorted(set(np.linspace(1, last, min(last, 10)).round().astype(int).tolist())) if last else []
            blocks = [
                [
                    group(escape(method), 1 + len(shown)),
                    *epoch_rows(tables, study, dataset, split, backbone, method, here, shown),
                ]
                for method in study.methods
                if len(of(here, method=method))
            ]
            for some in pages(blocks):
                body = tabular("l" + "r" * len(shown), [["epoch", *map(str, shown)]], spaced(some))
                label = f"epochs-{len(floats) + 1}" if floats else "epochs"
                floats.append(floating(body, epochs_caption(tables, study, dataset, split, backbone), label))
    return "\n".join(floats) or "No run has finished an epoch.\n"


def epochs_caption(tables, study, dataset, split, backbone) -> str:
    test = " Test scores are a curve that chooses nothing." if study.training.test_curve else ""
    theirs = " In italics the published figures." if tables.published and len(tables.published.epochs) else ""
    data = f"{escape(dataset)}, " if len(study.datasets) > 1 else ""
    return (
        f"{escape(backbone)} on {data}{escape(split)}, epoch by epoch: means over the runs that finished.{test}{theirs}"
    )


def epoch_rows(tables, study, dataset, split, backbone, method, here, shown) -> list[list[str]]:
    """Return the rows of one method: each measure's mean over the finished runs, and the published one below it."""
    means = of(here, method=method).groupby("epoch").mean(numeric_only=True).reindex(shown)
    measures = [
        ("training_loss", "training loss", score, 3),
        ("validation_score", f"validation {metric(tables, dataset)}", score, 3),
    ]
    if study.training.test_curve:
        measures.append(("test_score", f"test {metric(tables, dataset)}", score, 3))
    measures.append(("training_seconds", "seconds", lambda value, digits: amount(value), 0))
    theirs = None
    if tables.published is not None:
        theirs = of(tables.published.epochs, split=split, backbone=backbone, method=method)
        theirs = theirs.set_index("epoch").reindex(shown) if len(theirs) else None
    rows = []
    for column, name, write, digits in measures:
        if means[column].isna().all():
            continue
        rows.append([name, *(write(value, digits) for value in means[column])])
        counterpart = "test_score" if study.training.test_curve else "validation_score"
        published = {counterpart: "held_out_accuracy"}.get(column, column)
        if theirs is not None and published in theirs and theirs[published].notna().any():
            rows.append([r"\emph{published}", *published_cells(theirs[published], 2 if digits else 0)])
    return rows


def published_cells(values: pd.Series, digits: int) -> list[str]:
    return ["" if absent(value) else rf"\emph{{{score(value, digits)}}}" for value in values]
