"""The tables of what came out: scores, differences, costs, failures, epochs."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd

from peftstudy.figures import METRICS, backbones, of
from peftstudy.latex import (
    absent,
    amount,
    bounds,
    count,
    escape,
    floating,
    group,
    p_value,
    rate,
    score,
    share,
    shortened,
    tabular,
)
from peftstudy.study import Study

ROWS = 46
"""So many rows of a table fit a page."""
SEPARABLE = 0.05
BASELINES = {"tfidf-logistic-regression": "tf-idf, logistic regression", "majority": "majority class"}


def measure(tables: SimpleNamespace) -> str:
    metric = str(tables.runs.metric.iloc[0])
    return escape(METRICS.get(metric, metric))


def rule(study: Study) -> str:
    best = study.training.select == "best"
    return f"Reported is {'the epoch with the best validation score' if best else 'the last epoch'} of each run."


def over_seeds(study: Study) -> str:
    number = len(study.seeds)
    if number == 1:
        return "There is one seed, so there are no intervals."
    way = "Student's t" if number < 10 else "the bias-corrected and accelerated bootstrap"
    return f"In brackets 95\\,\\% intervals over {number} seeds, by {way}."


def pieces(rows: Sequence, most: int) -> list[list]:
    return [list(rows[start : start + most]) for start in range(0, len(rows), most)]


def grid(
    study: Study, caption: str, label: str, heads: list[str], columns: str, wide: int,
    cell: Callable[[str, str, str, str], list[str] | None], below: Callable[[str, str], list[list[str]]],
) -> str:  # fmt: skip
    """Return floats with a row for each method, grouped by split, and some columns for each backbone.

    heads, columns: the names and alignments of a backbone's columns. wide: backbones side by side.
    cell: dataset, split, backbone, method -> those columns, or None where nothing was asked.
    below: dataset, split -> further rows, a backbone's columns each.
    """
    floats = []
    for dataset in study.datasets:
        for beside in pieces(backbones(study), wide):
            groups = []
            for split in study.splits:
                rows = grid_rows(study, dataset, split, beside, cell, len(heads))
                if rows:
                    rows += [[name, *content * len(beside)] for name, *content in below(dataset, split)]
                    groups.append([group(escape(split), 1 + len(heads) * len(beside)), *rows])
            many = max(1, ROWS // max((len(rows) for rows in groups), default=1))
            for some in pieces(groups, many):
                rows = [row for i, rows in enumerate(some) for row in ([r"\addlinespace"] if i else []) + rows]
                spans = [rf"\multicolumn{{{len(heads)}}}{{c}}{{{escape(name)}}}" for name in beside]
                lines = "".join(
                    rf"\cmidrule(lr){{{2 + i * len(heads)}-{1 + (i + 1) * len(heads)}}}" for i in range(len(beside))
                )
                body = tabular(
                    "l" + columns * len(beside), [["", *spans], ["method", *heads * len(beside)]], rows, lines
                )
                where = f"{escape(dataset)}. " if len(study.datasets) > 1 else ""
                again = f"{label}-{len(floats) + 1}" if floats else label
                floats.append(floating(body, where + caption, again))
    return "\n".join(floats)


def grid_rows(study, dataset, split, beside, cell, width):
    rows = []
    for method in study.methods:
        cells = [cell(dataset, split, backbone, method) for backbone in beside]
        if any(cells):
            rows.append([escape(method), *(text for found in cells for text in found or [""] * width)])
    return rows


def scores(tables: SimpleNamespace, study: Study, methods) -> str:
    """Return the scores with intervals; the best is bold, and what is not told apart from it is marked."""

    def cell(dataset, split, backbone, method):
        where = {"dataset": dataset, "split": split, "backbone": backbone}
        here = of(tables.scores, **where)
        rows = of(here, method=method)
        if not len(rows):
            return None
        row = rows.iloc[0]
        text = score(row.test_score)
        if not absent(row.test_score) and row.test_score == here.test_score.max():
            text = rf"\textbf{{{text}}}"
        elif not absent(row.test_score):
            to_best = of(tables.differences, **where, kind="best", method=method)
            apart = len(to_best) and to_best.p_holm.iloc[0] < SEPARABLE
            text += "" if apart else r"$^{=}$"
        number = str(row.finished) if row.finished == row.asked else f"{row.finished} of {row.asked}"
        number += f", {row.collapsed}c" if row.collapsed else ""
        return [text, bounds(row.low, row.high), number]

    def below(dataset, split):
        found = of(tables.baselines, dataset=dataset, split=split)
        return [
            [
                rf"\textcolor{{gray}}{{{escape(BASELINES.get(row.baseline, row.baseline))}}}",
                score(row.test_score),
                "",
                "",
            ]
            for row in found.itertuples()
        ]

    caption = (
        f"Scores: {measure(tables)} on test. {rule(study)} {over_seeds(study)} $n$: runs that finished; "
        "c: collapsed, which count. Bold: the best mean; $^{=}$: not told apart from it "
        "(paired $t$ test, Holm-adjusted, 0.05). Grey: baselines without a backbone."
    )
    return grid(study, caption, "scores", ["mean", "interval", "$n$"], "rll", 3, cell, below)


def differences(tables: SimpleNamespace, study: Study, methods) -> str:
    """Return each method's difference to the reference, paired by seed, with interval and adjusted p value."""
    found = of(tables.differences, kind="reference")

    def cell(dataset, split, backbone, method):
        rows = of(found, dataset=dataset, split=split, backbone=backbone, method=method)
        if not len(rows):
            return None
        row = rows.iloc[0]
        return [score(row.difference), bounds(row.low, row.high), p_value(row.p_holm)]

    caption = (
        f"Differences in {measure(tables)} to {escape(study.reference)}, paired by seed. {rule(study)} "
        f"{over_seeds(study)} $p$: paired $t$ test, adjusted after \\citet{{holm1979}} "
        "among the methods of a backbone and split."
    )
    heads = ["difference", "interval", "$p$"]
    return grid(study, caption, "differences", heads, "rlr", 2, cell, lambda dataset, split: [])


def pretraining(tables: SimpleNamespace, study: Study, methods) -> str:
    """Return what pre-training gives each method: scores from trained and from random weights, and their difference."""
    rows = []
    for row in of(tables.differences, kind="pretraining").itertuples():
        where = {"dataset": row.dataset, "split": row.split, "method": row.method}
        pair = [of(tables.scores, **where, backbone=name).test_score.iloc[0] for name in (row.backbone, row.reference)]
        rows.append([
            escape(row.backbone), escape(row.split), escape(row.method), *map(score, pair),
            score(row.difference), bounds(row.low, row.high), p_value(row.p_holm),
        ])  # fmt: skip
    header = [["backbone", "split", "method", "pre-trained", "random", "difference", "interval", "$p$"]]
    caption = (
        f"What pre-training gives: {measure(tables)} from pre-trained weights and from random ones of the same shape, "
        f"paired by seed. {rule(study)} {over_seeds(study)} $p$ is Holm-adjusted."
    )
    return floating(tabular("lllrrrlr", header, rows), caption, "pretraining")


def costs(tables: SimpleNamespace, study: Study, methods) -> str:
    """Return what a run of each method costs on the first split, means over the runs that finished."""
    split = study.splits[0]
    rows: list[list[str] | str] = []
    for dataset in study.datasets:
        for backbone in backbones(study, split):
            here = of(tables.scores, dataset=dataset, split=split, backbone=backbone)
            rows += [r"\addlinespace"] if rows else []
            rows.append(group(escape(backbone if len(study.datasets) == 1 else f"{dataset}, {backbone}"), 10))
            for row in here[here.finished > 0].itertuples():
                device = row.peak_device_memory_bytes
                memory = row.peak_memory_bytes if absent(device) else device
                rows.append([
                    escape(row.method), count(row.method_parameters), count(row.head_parameters),
                    share(row.method_parameters / row.backbone_parameters), amount(row.training_seconds),
                    amount(row.evaluation_seconds), amount(row.setup_seconds), count(row.examples_per_second),
                    count(memory / 1e6), amount(row.stored_bytes / 1e3),
                ])  # fmt: skip
    on_device = tables.scores.peak_device_memory_bytes.notna().any()
    header = [
        ["", r"\multicolumn{3}{c}{trained parameters}", r"\multicolumn{3}{c}{seconds}", "examples", "memory", "stored"],
        ["method", "method", "head", "share", "training", "evaluation", "set-up", "a second", "MB", "kB"],
    ]
    caption = (
        f"Costs of a run on {escape(split)}, means over seeds. {rule(study)} Share: the method's parameters of the "
        f"backbone's. Memory: the peak {'on the device' if on_device else 'resident in the process'}. Stored: what "
        "must be kept for the task besides the backbone."
    )
    lines = r"\cmidrule(lr){2-4}\cmidrule(lr){5-7}"
    return floating(tabular("lrrrrrrrrr", header, rows, lines), caption, "costs")


def failures(tables: SimpleNamespace, study: Study, methods) -> str:
    """Return the runs that did not finish, or collapsed; a sentence when there are none."""
    runs = tables.runs
    bad = runs[(runs.status != "finished") | runs.collapsed]
    if not len(bad):
        return f"All {count(len(runs))} runs finished, and none collapsed.\n"
    rows = [
        [escape(row.dataset), escape(row.split), escape(row.backbone), escape(row.method), str(row.seed),
         "collapsed" if row.status == "finished" else escape(row.status),
         "" if absent(row.reason) else shortened(row.reason, 60)]
        for row in bad.head(ROWS).itertuples()
    ]  # fmt: skip
    more = f" The first {ROWS} are shown." if len(bad) > ROWS else ""
    caption = (
        f"Runs that came to nothing, {count(len(bad))} of {count(len(runs))}. A collapsed run finished, but its model "
        f"gives one answer to all examples; its score counts. The others have no score, and are counted as such.{more}"
    )
    header = [["dataset", "split", "backbone", "method", "seed", "ended", "reason"]]
    return floating(tabular("llllrll", header, rows), caption, "failures")


def searches(tables: SimpleNamespace, study: Study, methods) -> str:
    """Return the validation score of every learning rate tried, the chosen one in bold."""
    found = tables.searches
    rates = sorted(found.learning_rate.unique())
    rows = []
    for (split, backbone, method), trials in found.groupby(["split", "backbone", "method"], sort=False):
        trials = trials.groupby("learning_rate")[["validation_score", "chosen"]].max()
        rows.append([escape(split), escape(backbone), escape(method), *(trial(trials, value) for value in rates)])
    if not rows:
        return "No learning rate was searched.\n"
    header = [["split", "backbone", "method", *map(rate, rates)]]
    caption = "Search for learning rates: the validation score of each trial; bold is the one that was taken."
    floats = [
        floating(tabular("lll" + "r" * len(rates), header, some), caption, f"searches-{i}" if i else "searches")
        for i, some in enumerate(pieces(rows, ROWS))
    ]
    return "\n".join(floats)


def trial(trials: pd.DataFrame, learning_rate: float) -> str:
    if learning_rate not in trials.index:
        return ""
    found = trials.loc[learning_rate]
    text = score(found.validation_score)
    return rf"\textbf{{{text}}}" if found.chosen else text


def epochs(tables: SimpleNamespace, study: Study, methods) -> str:
    """Return loss, scores and seconds after each epoch on the first split, a table for each backbone."""
    split = study.splits[0]
    floats = []
    for dataset in study.datasets:
        for backbone in backbones(study, split):
            here = of(tables.epochs, dataset=dataset, split=split, backbone=backbone)
            last = int(here.epoch.max()) if len(here) else 0
            shown = sorted(set(np.linspace(1, last, min(last, 10)).round().astype(int).tolist())) if last else []
            blocks = [
                [
                    group(escape(method), 1 + len(shown)),
                    *epoch_rows(tables, study, split, backbone, method, here, shown),
                ]
                for method in study.methods
                if len(of(here, method=method))
            ]
            most = max(1, ROWS // max((len(block) for block in blocks), default=1))
            for some in pieces(blocks, most):
                rows = [row for i, block in enumerate(some) for row in ([r"\addlinespace"] if i else []) + block]
                body = tabular("l" + "r" * len(shown), [["epoch", *map(str, shown)]], rows)
                label = f"epochs-{len(floats) + 1}" if floats else "epochs"
                floats.append(floating(body, epochs_caption(tables, study, dataset, split, backbone), label))
    return "\n".join(floats) or "No run has finished an epoch.\n"


def epochs_caption(tables, study, dataset, split, backbone) -> str:
    test = " Test scores are a curve that chooses nothing." if study.training.test_curve else ""
    theirs = " In italics the published figures." if tables.published else ""
    data = f"{escape(dataset)}, " if len(study.datasets) > 1 else ""
    return f"{escape(backbone)} on {data}{escape(split)}, epoch by epoch: means over seeds.{test}{theirs}"


def epoch_rows(tables, study, split, backbone, method, here, shown) -> list[list[str]]:
    """Return the rows of one method: each measure's mean over seeds, and the published one below it."""
    means = of(here, method=method).groupby("epoch").mean(numeric_only=True).reindex(shown)
    measures = [
        ("training_loss", "training loss", score, 3),
        ("validation_score", f"validation {measure(tables)}", score, 3),
    ]
    if study.training.test_curve:
        measures.append(("test_score", f"test {measure(tables)}", score, 3))
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
