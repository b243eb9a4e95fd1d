"""Figures of scores: by method, epoch, cost and size, and beside random weights."""

from collections.abc import Callable
from itertools import zip_longest
from types import SimpleNamespace

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from peftstudy.evidence import summaries
from peftstudy.evidence.bargains import on_front
from peftstudy.evidence.places import backbones, finished_epochs, main_splits, methods_on, of, sized
from peftstudy.report.grids import pieces
from peftstudy.report.plotting import (
    ACROSS,
    GREY,
    across,
    entitle,
    fit,
    label_ends,
    label_points,
    logarithmic,
    looks,
    one_each,
    panels,
    seeds_and_mean,
)
from peftstudy.report.views import NothingToDraw, cells, measure, shown
from peftstudy.study import Study

BY_WORDS = ("tfidf-logistic-regression", "tfidf-ridge")
"""The baselines that count words, in figures tf-idf for short."""


def score_by_method(data: SimpleNamespace, study: Study, dataset: str) -> Figure:
    """Draw the scores of each method: a row of panels a split, a panel a backbone, baselines as lines."""
    splits = [split for split in main_splits(study, dataset) if backbones(study, split, dataset)]
    asked = [backbones(study, split, dataset) for split in splits]
    columns = [name for name in backbones(study, dataset=dataset) if any(name in names for names in asked)]
    order = methods_on(study, dataset)
    look = looks(list(study.methods))
    rows = [(split, columns) for split in splits]
    if len(columns) > ACROSS:
        rows = [(split, some) for split, names in zip(splits, asked, strict=True)
                for some in pieces(names, across(len(names)))]  # fmt: skip
    width = max((len(some) for _, some in rows), default=0)
    figure, axes = panels(len(rows), width, 0.17 * len(order) + 0.45, sharex=True, sharey=True)
    for i, (split, some) in enumerate(rows):
        for here, backbone in zip_longest(axes[i], some):
            if backbone not in asked[splits.index(split)]:
                here.set_axis_off()
                continue
            baselines(here, data, dataset, split, names=i == 0)
            for method, seeds, row in cells(data, study, dataset, split, backbone):
                y = order.index(method)
                seeds_and_mean(here, seeds, [y] * len(seeds), (row.test_score, y), look[method],
                               place(row), seeds.index, (row.low, row.high), across=True)  # fmt: skip
            entitle(here, named(study, dataset, f"{backbone}, {split}"), pad=10 if i == 0 else 4)
            here.grid(axis="y", visible=False)
    fit(axes.flat, "x", shown(data, dataset, splits, columns))
    name_rows(axes, order)
    figure.supxlabel(f"{measure(data, dataset)} on test", fontsize=8)
    return figure


def learning_curves(data: SimpleNamespace, study: Study, dataset: str) -> Figure:
    """Draw the mean score after each epoch, a panel a backbone; test scores, where logged, in a second row."""
    split = study.first_split(dataset)
    columns = backbones(study, split, dataset)
    scores = {"validation_score": "validation"} if study.validation else {}
    if study.training.test_curve:
        scores["test_score"] = "test"
    wide = across(len(columns))
    rows = [(*score, some) for some in pieces(columns, wide or 1) for score in scores.items()]
    figure, axes = panels(len(rows), wide, 2.1, sharex="col", sharey=True)
    look = looks(list(study.methods))
    epochs = of(finished_epochs(data.runs, data.epochs), dataset=dataset, split=split)
    if not len(epochs):
        raise NothingToDraw("no run has finished an epoch")
    ends = {}
    for i, (column, name, some) in enumerate(rows):
        for here, backbone in zip_longest(axes[i], some):
            if backbone is None:
                here.set_axis_off()
                continue
            curves = of(epochs, backbone=backbone).groupby(["method", "epoch"])[column].mean().dropna()
            for method in [m for m in study.methods if m in curves.index.get_level_values(0)]:
                curve = curves[method]
                here.plot(curve.index, curve, ls=look[method].dashes, color=look[method].colour,
                          url=f"{dataset}/{split}/{backbone}/{method}")  # fmt: skip
                end = (curve.index[-1], curve.iloc[-1], method, look[method].ink)
                ends.setdefault(here, []).append(end)
            entitle(here, named(study, dataset, f"{backbone}, {split}: {name}"))
            here.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    label_ends(figure, ends)
    label_outermost(axes)
    figure.supxlabel("epoch", fontsize=8)
    figure.supylabel(measure(data, dataset), fontsize=8)
    return figure


def score_by(column: Callable[[pd.DataFrame], pd.Series], title: str):
    """Return a figure of scores against a cost, on a logarithmic scale: a panel a backbone, a name a method."""

    def draw(data: SimpleNamespace, study: Study, dataset: str) -> Figure:
        split = study.first_split(dataset)
        columns = backbones(study, split, dataset)
        look = looks(list(study.methods))
        figure, axes = one_each(columns, 2.6, f"{measure(data, dataset)} on test")
        points = {}
        for here, backbone in axes:
            for method, seeds, row in cells(data, study, dataset, split, backbone):
                runs = of(data.runs, dataset=dataset, split=split, backbone=backbone, method=method, status="finished")
                costs = column(runs).set_axis(runs.seed).loc[seeds.index]
                seeds_and_mean(here, costs, seeds, (costs.mean(), row.test_score), look[method],
                               place(row), seeds.index, (row.low, row.high))  # fmt: skip
                points.setdefault(here, []).append((costs.mean(), row.test_score, method, look[method].ink))
            front_line(here, [place[:2] for place in points.get(here, [])])
            entitle(here, named(study, dataset, f"{backbone}, {split}"))
            spent = column(of(data.runs, dataset=dataset, split=split, backbone=backbone, status="finished")).dropna()
            if len(spent):
                logarithmic(here, spent)
            else:
                here.set_xticks([])
        fit(dict(axes), "y", shown(data, dataset, [split], columns, baselines=False))
        figure.supxlabel(title, fontsize=8)
        label_points(figure, points)
        return figure

    return draw


def score_by_training_examples(data: SimpleNamespace, study: Study, dataset: str) -> Figure:
    """Draw each method's score over the size of the training part, with its interval; a panel a backbone."""
    splits = sized(study, dataset)
    columns = [name for name in backbones(study) if is_curve(study, dataset, name)]
    look = looks(list(study.methods))
    figure, axes = one_each(columns, 2.6, f"{measure(data, dataset)} on test")
    scores = of(data.scores, dataset=dataset).dropna(subset=["test_score"])
    scores = scores[scores.split.isin(splits)].sort_values("train_examples", kind="stable")
    scores = scores[scores.backbone.isin(columns)]
    if not len(scores):
        raise NothingToDraw(f"no run on {', '.join(splits)} has finished")
    ends, lines = {}, []
    for here, backbone in axes:
        for method in study.methods:
            curve = of(scores, backbone=backbone, method=method)
            if not len(curve):
                continue
            here.plot(curve.train_examples, curve.test_score, ls=look[method].dashes, color=look[method].colour,
                      marker=look[method].shape, ms=3.2, url=" ".join(map(place, curve.itertuples())))  # fmt: skip
            here.vlines(curve.train_examples, curve.low, curve.high, color=look[method].colour, lw=0.5, alpha=0.7)
            end = (curve.train_examples.iloc[-1], curve.test_score.iloc[-1], method, look[method].ink)
            ends.setdefault(here, []).append(end)
        line = of(data.baselines, dataset=dataset)
        line = line[line.baseline.isin(BY_WORDS)]
        sizes = scores.drop_duplicates("split").set_index("split").train_examples
        line = line[line.split.isin(sizes.index)].assign(size=line.split.map(sizes)).sort_values("size")
        if len(line):
            here.plot(line["size"], line.test_score, color=GREY, lw=0.8)
            lines += list(line.test_score)
            ends.setdefault(here, []).append((line["size"].iloc[-1], line.test_score.iloc[-1], "tf-idf", GREY))
        entitle(here, named(study, dataset, backbone))
        logarithmic(here, sizes, sizes)
    fit(dict(axes), "y", [*scores.test_score, *lines])
    label_ends(figure, ends)
    figure.supxlabel("training examples", fontsize=8)
    return figure


def pretraining_gain(data: SimpleNamespace, study: Study, dataset: str) -> Figure:
    """Draw what pre-training adds to each method: score minus the score from random weights, paired by seed."""
    gains = of(data.differences, dataset=dataset, kind="pretraining")
    places = list(dict.fromkeys(zip(gains.backbone, gains.split, gains.reference, strict=True)))
    if not places:
        raise NothingToDraw("no method has finished both from pre-trained and from random weights")
    order = [method for method in study.methods if method in set(gains.method)]
    look = looks(list(study.methods))
    columns = min(3, len(places))
    figure, axes = panels(-(-len(places) // columns), columns, 0.2 * len(order) + 0.5, sharex=True, sharey=True)
    for here in axes.flat[len(places) :]:
        here.set_axis_off()
    for here, (backbone, split, twin) in zip(axes.flat, places, strict=False):
        here.axvline(0, color=GREY, lw=0.6)
        for row in of(gains, backbone=backbone, split=split, reference=twin).itertuples():
            a, b = (
                summaries.scores_by_seed(of(data.runs, dataset=dataset, split=split, backbone=name, method=row.method))
                for name in (backbone, twin)
            )
            seeds = (a - b).dropna()
            y = order.index(row.method)
            seeds_and_mean(here, seeds, [y] * len(seeds), (row.difference, y), look[row.method],
                           place(row), seeds.index, (row.low, row.high), across=True)  # fmt: skip
        entitle(here, named(study, dataset, f"{backbone}, {split}"))
        here.grid(axis="y", visible=False)
    name_rows(axes, order)
    figure.supxlabel(f"{measure(data, dataset)}: pre-trained minus random weights", fontsize=8)
    return figure


def is_curve(study: Study, dataset: str, backbone: str) -> bool:
    """Return whether a backbone is run on a dataset with three sizes or more."""
    return sum(study.has(dataset, split, backbone) for split in sized(study, dataset)) >= 3


def place(row) -> str:
    """Return what a row of the statistics is about, as runs are named."""
    return f"{row.dataset}/{row.split}/{row.backbone}/{row.method}"


def named(study: Study, dataset: str, title: str) -> str:
    """Return a panel's title, with the dataset where the study has several."""
    return title if len(study.datasets) == 1 else f"{dataset}: {title}"


def baselines(axes, data, dataset, split, names: bool) -> None:
    """Draw the baselines of a split as vertical lines; `names` writes them above."""
    for row in of(data.baselines, dataset=dataset, split=split).dropna(subset=["test_score"]).itertuples():
        axes.axvline(row.test_score, color=GREY, lw=0.6, ls=(0, (4, 2)), gid="baseline", zorder=1)
        if names:
            axes.annotate(
                "tf-idf" if row.baseline in BY_WORDS else row.baseline, (row.test_score, 1.0), xytext=(0, 1),
                xycoords=axes.get_xaxis_transform(), textcoords="offset points", ha="center", va="bottom",
                fontsize=6.5, color=GREY,
            )  # fmt: skip


def front_line(axes, points: list[tuple[float, float]]) -> None:
    """Draw the Pareto front of points (cost, score): the highest score that so much buys."""
    frame = pd.DataFrame(points, columns=["cost", "score"])
    front = frame[on_front(frame.cost, frame.score)].sort_values("cost")
    axes.step(front.cost, front.score, where="post", color=GREY, lw=0.6, ls=(0, (1, 1)), zorder=1, gid="front")


def name_rows(axes, names: list[str]) -> None:
    """Name the rows of panels that share both axes."""
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    label_outermost(axes)


def label_outermost(axes) -> None:
    """Label the first panel of each row, and the last one of each column, that is drawn."""
    for row in axes:
        next(here for here in row if here.axison).tick_params(labelleft=True)
    for column in axes.T:
        [here for here in column if here.axison][-1].tick_params(labelbottom=True)
