"""The tables of what happened on the way: trials of learning rates, and every epoch."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from peftstudy.report.answer import metric
from peftstudy.report.grids import ROWS, pages, pieces, spaced
from peftstudy.report.latex import absent, amount, escape, floating, group, rate, score, tabular
from peftstudy.report.views import backbones, finished_epochs, of
from peftstudy.searching import at_edge
from peftstudy.statistics import CELL
from peftstudy.study import Study


def searches(tables: SimpleNamespace, study: Study, methods) -> str:
    """Return the validation score of every learning rate tried, the chosen one in bold."""
    found = tables.searches
    rates = sorted(found.learning_rate.unique())
    rows = []
    for (dataset, split, backbone, method), trials in found.groupby(CELL, sort=False):
        edge = at_edge(trials)
        trials = trials.groupby("learning_rate")[["validation_score", "chosen"]].max()
        names = [dataset, split, backbone, method] if len(study.datasets) > 1 else [split, backbone, method]
        rows.append([*map(escape, names), *(trial(trials, value, edge) for value in rates)])
    if not rows:
        return "No learning rate was searched.\n"
    names = CELL if len(study.datasets) > 1 else CELL[1:]
    header = [[*names, *map(rate, rates)]]
    caption = (
        "Search for learning rates: the validation score of each trial; bold is the one that was taken, "
        r"$^{\dagger}$ where it is the lowest or the highest that was tried."
    )
    floats = [
        floating(
            tabular("l" * len(names) + "r" * len(rates), header, some), caption, f"searches-{i}" if i else "searches"
        )
        for i, some in enumerate(pieces(rows, ROWS))
    ]
    return "\n".join(floats)


def trial(trials: pd.DataFrame, learning_rate: float, edge: bool) -> str:
    if learning_rate not in trials.index:
        return ""
    found = trials.loc[learning_rate]
    text = score(found.validation_score)
    mark = r"$^{\dagger}$" if edge else ""
    return rf"\textbf{{{text}}}{mark}" if found.chosen else text


def epochs(tables: SimpleNamespace, study: Study, methods) -> str:
    """Return loss, scores and seconds after each epoch on the first split, a table for each backbone."""
    split = study.splits[0]
    floats = []
    finished = finished_epochs(tables.runs, tables.epochs)
    for dataset in study.datasets:
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
