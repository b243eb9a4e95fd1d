"""The tables of what came out: scores, differences, costs, failures, epochs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType, SimpleNamespace

import pandas as pd

from peftstudy import seeds, statistics, tasks
from peftstudy.evidence.intervals import MANY
from peftstudy.report import bargains
from peftstudy.report.answer import SEPARABLE, metric
from peftstudy.report.latex import (
    absent,
    amount,
    bounds,
    count,
    escape,
    floating,
    group,
    p_value,
    score,
    share,
    shortened,
    tabular,
)
from peftstudy.report.views import METRICS, backbones, of, one, selection_rule
from peftstudy.study import Study

ROWS = 46
"""So many rows of a table fit a page."""
BASELINES = {
    "choices-alone": "tf-idf of the choices alone",
    "majority": "majority class",
    "majority-word": "majority label",
    "mean": "mean of training",
    "similar-sentence": "most similar sentence",
    "tfidf-logistic-regression": "tf-idf, logistic regression",
    "tfidf-ridge": "tf-idf, ridge regression",
    "usual-label": "each word's usual label",
}


def rule(study: Study) -> str:
    return f"Reported is {selection_rule(study)} of each run."


def over_seeds(study: Study) -> str:
    number = len(study.seeds)
    if number == 1:
        return "There is one seed, so there are no intervals."
    way = "Student's t" if number < MANY else "the bias-corrected and accelerated bootstrap"
    if min(seeds.shared(study.seeds)) > 1:
        way = "their variance components and Student's t"
    return f"In brackets 95\\,\\% intervals over {' '.join(seeds.counted(study.seeds))}, by {way}."


def mixed(tables: SimpleNamespace) -> str:
    """Return what the marks of mixtures mean and what is mixed; nothing where nothing is."""
    found = statistics.mixtures(tables.runs)
    return rf"m: \textbf{{mixed}} runs, {escape(statistics.described(found))}. " if found else ""


def pieces(rows: Sequence, most: int) -> list[list]:
    return [list(rows[start : start + most]) for start in range(0, len(rows), most)]


def pages(groups: list[list]) -> list[list[list]]:
    """Return groups of rows shared out over as few pages as hold them, evenly."""
    most = max(1, ROWS // max((len(rows) for rows in groups), default=1))
    needed = max(1, -(-len(groups) // most))
    return pieces(groups, -(-len(groups) // needed)) if groups else []


def grid(
    study: Study, caption: Callable[[str], str], label: str, heads: list[str], columns: str, wide: int,
    cell: Callable[[str, str, str, str], list[str] | None], below: Callable[[str, str], list[list[str]]],
) -> str:  # fmt: skip
    """Return floats with a row for each method, grouped by split, and some columns for each backbone.

    caption: dataset -> the caption of its floats.
    heads, columns: the names and alignments of a backbone's columns. wide: backbones side by side.
    cell: dataset, split, backbone, method -> those columns, or None where nothing was asked.
    below: dataset, split -> further rows, a backbone's columns each.
    """
    floats = []
    for dataset in study.datasets:
        together: dict[tuple[str, ...], list[str]] = {}
        for split in study.splits:
            together.setdefault(tuple(backbones(study, split, dataset)), []).append(split)
        for some_backbones, splits in together.items():
            for beside in pieces(some_backbones, wide):
                blocks = []
                for split in splits:
                    rows = grid_rows(study, dataset, split, beside, cell, len(heads))
                    if rows:
                        rows += [[name, *content * len(beside)] for name, *content in below(dataset, split)]
                        blocks.append([group(escape(split), 1 + len(heads) * len(beside)), *rows])
                for some in pages(blocks):
                    body = grid_body(beside, heads, columns, some)
                    where = f"{escape(dataset)}. " if len(study.datasets) > 1 else ""
                    again = f"{label}-{len(floats) + 1}" if floats else label
                    floats.append(floating(body, where + caption(dataset), again))
    # The text refers to the table, so an empty one is still there.
    return "\n".join(floats) or floating("No runs to compare.", caption(next(iter(study.datasets))), label)


def grid_body(beside: list[str], heads: list[str], columns: str, blocks: list[list]) -> str:
    width = len(heads)
    spans = [rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}" for name in beside]
    lines = "".join(rf"\cmidrule(lr){{{2 + i * width}-{1 + (i + 1) * width}}}" for i in range(len(beside)))
    return tabular("l" + columns * len(beside), [["", *spans], ["method", *heads * len(beside)]], spaced(blocks), lines)


def spaced(blocks: list[list]) -> list:
    """Return the rows of some blocks, a little space between blocks."""
    return [row for i, rows in enumerate(blocks) for row in ([r"\addlinespace"] if i else []) + rows]


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
        row = one(here, method=method)
        if row is None:
            return None
        text = score(row.test_score)
        if not absent(row.test_score) and method == statistics.best(here).method:
            text = rf"\textbf{{{text}}}"
        elif not absent(row.test_score):
            to_best = of(tables.differences, **where, kind="best", method=method)
            apart = len(to_best) and to_best.p_holm.iloc[0] < SEPARABLE
            text += "" if apart else r"$^{=}$"
        number = str(row.finished) if row.finished == row.asked else f"{row.finished} of {row.asked}"
        number += f", {row.collapsed}c" if row.collapsed else ""
        number += "" if absent(row.mixed) else ", m"
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

    def caption(dataset):
        return (
            f"Scores: {metric(tables, dataset)} on test. {rule(study)} {over_seeds(study)} $n$: runs that finished; "
            f"c: collapsed, which count. {mixed(tables)}"
            "Bold: the best mean, of methods that finished every run where there are any; "
            "$^{=}$: not told apart from it (paired $t$ test, Holm-adjusted, 0.05). Grey: baselines without a backbone."
        )

    return grid(study, caption, "scores", ["mean", "interval", "$n$"], "rll", 3, cell, below)


def differences(tables: SimpleNamespace, study: Study, methods) -> str:
    """Return each method's difference to the reference, paired by seed, with interval and adjusted p value."""
    found = of(tables.differences, kind="reference")

    def cell(dataset, split, backbone, method):
        row = one(found, dataset=dataset, split=split, backbone=backbone, method=method)
        if row is None:
            return None
        return [score(row.difference), bounds(row.low, row.high), p_value(row.p_holm)]

    def caption(dataset):
        return (
            f"Differences in {metric(tables, dataset)} to {escape(study.reference)}, paired by seed. {rule(study)} "
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
            escape(row.backbone if len(study.datasets) == 1 else f"{row.dataset}, {row.backbone}"),
            escape(row.split), escape(row.method), *map(score, pair),
            score(row.difference), bounds(row.low, row.high), p_value(row.p_holm),
        ])  # fmt: skip
    header = [["backbone", "split", "method", "pre-trained", "random", "difference", "interval", "$p$"]]
    caption = (
        f"What pre-training gives: {metric(tables)} from pre-trained weights and from random ones of the same shape, "
        f"paired by seed. {rule(study)} {over_seeds(study)} $p$ is Holm-adjusted."
    )
    return floating(tabular("lllrrrlr", header, rows), caption, "pretraining")


def every_metric(tables: SimpleNamespace, study: Study, methods) -> str:
    """Return all metrics of each method and baseline on the first split, means over the runs that finished."""
    split = study.splits[0]
    floats = []
    for dataset in study.datasets:
        runs = of(tables.runs, dataset=dataset, split=split, status="finished")
        baselines = of(tables.baselines, dataset=dataset, split=split)
        task = tasks.create(study.datasets[dataset].task)
        metrics = task.metrics
        shown = [name for name in metrics if f"test_{name}" in runs and runs[f"test_{name}"].notna().any()]
        blocks = [
            [group(escape(backbone), 1 + len(shown)), *metric_rows(of(runs, backbone=backbone), study.methods, shown)]
            for backbone in backbones(study, split, dataset)
            if len(of(runs, backbone=backbone))
        ]
        grey = metric_rows(baselines.rename(columns={"baseline": "method"}), baselines.baseline, shown, BASELINES)
        if not blocks:
            continue
        blocks.append([group("without a backbone", 1 + len(shown)), *grey])
        header = [["method", *(METRICS.get(name, name) for name in shown)]]
        body = tabular("l" + "r" * len(shown), header, spaced(blocks))
        where = f"{escape(dataset)}. " if len(study.datasets) > 1 else ""
        caption = f"{where}Every metric on {escape(split)}, means over the runs that finished. {rule(study)}"
        for name in [name for name in task.wanting if name not in shown]:
            caption += f" {METRICS.get(name, name)}: {escape(task.wanting[name])}."
        floats.append(floating(body, caption, f"metrics-{len(floats) + 1}" if floats else "metrics"))
    return "\n".join(floats) or "No run has finished.\n"


def metric_rows(
    rows: pd.DataFrame, names: Iterable[str], metrics: list[str], written: Mapping[str, str] = MappingProxyType({})
) -> list[list[str]]:
    """Return a row for each of some methods or baselines: the means of its metrics."""
    means = rows.groupby("method")[[f"test_{metric}" for metric in metrics]].mean()
    return [[escape(written.get(name, name)), *map(score, means.loc[name])] for name in names if name in means.index]


def costs(tables: SimpleNamespace, study: Study, methods) -> str:
    """Return what a run of each method costs on the first split, means over the runs that finished."""
    split = study.splits[0]
    rows: list[list[str] | str] = []
    for dataset in study.datasets:
        for backbone in backbones(study, split, dataset):
            here = of(tables.scores, dataset=dataset, split=split, backbone=backbone)
            rows += [r"\addlinespace"] if rows else []
            rows.append(group(escape(backbone if len(study.datasets) == 1 else f"{dataset}, {backbone}"), 10))
            here = bargains.costed(here)
            unbeaten = {
                column: bargains.on_front(here[column], here.test_score)
                for column in ("trained", "training_seconds", "memory", "stored_bytes")
            }
            for index, row in here.iterrows():
                star = {column: r"$^{\star}$" if front[index] else "" for column, front in unbeaten.items()}
                rows.append([
                    escape(row.method) + ("" if absent(row.mixed) else " (m)"),
                    count(row.method_parameters) + star["trained"], count(row.head_parameters),
                    share(row.method_parameters / row.backbone_parameters),
                    amount(row.training_seconds) + star["training_seconds"], amount(row.evaluation_seconds),
                    amount(row.setup_seconds), count(row.examples_per_second),
                    count(row.memory / 1e6) + star["memory"], amount(row.stored_bytes / 1e3) + star["stored_bytes"],
                ])  # fmt: skip
    on_device = tables.scores.peak_device_memory_bytes.notna().any()
    header = [
        ["", r"\multicolumn{3}{c}{trained parameters}", r"\multicolumn{3}{c}{seconds}", "examples", "memory", "stored"],
        ["method", "method", "head", "share", "training", "evaluation", "set-up", "a second", "MB", "kB"],
    ]
    caption = (
        f"Costs of a run on {escape(split)}, means over seeds. {rule(study)} {mixed(tables)}"
        "Share: the method's parameters of the "
        f"backbone's. Memory: the peak {'on the device' if on_device else 'resident in the process'}. Stored: what "
        r"must be kept for the task besides the backbone. $^{\star}$: on the Pareto front; no other method scores "
        "higher for as little of it, or as high for less."
    )
    lines = r"\cmidrule(lr){2-4}\cmidrule(lr){5-7}"
    return floating(tabular("lrrrrrrrrr", header, rows, lines), caption, "costs")


def seconds(tables: SimpleNamespace, study: Study, methods) -> str:
    """Return what the seconds of a run went to on the first split, where that was measured."""
    split, parts = study.splits[0], ["forward_seconds", "backward_seconds", "optimizer_seconds"]
    rows: list[list[str] | str] = []
    for dataset in study.datasets:
        for backbone in backbones(study, split, dataset):
            here = of(tables.scores, dataset=dataset, split=split, backbone=backbone).dropna(subset=parts)
            if len(here):
                rows += [r"\addlinespace"] if rows else []
                rows.append(group(escape(backbone if len(study.datasets) == 1 else f"{dataset}, {backbone}"), 7))
            for _, row in here.iterrows():
                rest = max(0.0, row.training_seconds - row[parts].sum())
                columns = [*row[parts], rest, row.evaluation_seconds, row.setup_seconds]
                rows.append([escape(row.method), *map(amount, columns)])
    if not rows:
        return (
            "What the seconds of training went to was not measured: older runs kept no record of it, and on a GPU it "
            "would take waiting for the device.\n"
        )
    caption = (
        f"Where the seconds of a run go on {escape(split)}, means over seeds. Forward: batches and the model up to the "
        "loss; backward: gradients; optimizer: cutting them, the update, and what the method does after it; other: the "
        "rest of training, such as checkpoints. What trains little saves in the optimizer and in the gradients of "
        "weights, and pays the forward pass and the way back through the layers all the same."
    )
    header = [["method", "forward", "backward", "optimizer", "other", "evaluation", "set-up"]]
    return floating(tabular("lrrrrrr", header, rows), caption, "seconds")


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
