"""The tables of what came out: scores, differences, every metric, failures."""

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType, SimpleNamespace

import pandas as pd

from peftstudy import tasks
from peftstudy.evidence import summaries
from peftstudy.evidence.places import backbones, of, one
from peftstudy.report.answer import SEPARABLE, metric
from peftstudy.report.captions import mixed, of_pairs, over_seeds, paired, rule
from peftstudy.report.grids import ROWS, grid, spaced
from peftstudy.report.latex import absent, bounds, count, escape, floating, group, p_value, score, shortened, tabular
from peftstudy.report.views import METRICS
from peftstudy.study import Study

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


def scores(tables: SimpleNamespace, study: Study) -> str:
    """Return the scores with intervals; the best is bold, and what is not told apart from it is marked."""

    def cell(dataset, split, backbone, method):
        where = {"dataset": dataset, "split": split, "backbone": backbone}
        here = of(tables.scores, **where)
        row = one(here, method=method)
        if row is None:
            return None
        text = score(row.test_score)
        if not absent(row.test_score) and method == summaries.best(here).method:
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
            "$^{=}$: not told apart from it (paired $t$ test, Holm-adjusted, 0.05; the best is chosen by "
            "these same runs, so that of many equal methods one is told apart more often than that). "
            "Grey: baselines without a backbone."
        )

    return grid(study, caption, "scores", ["mean", "interval", "$n$"], "rll", 3, cell, below)


def differences(tables: SimpleNamespace, study: Study) -> str:
    """Return each method's difference to the reference, paired by seed, with interval and adjusted p value."""
    found = of(tables.differences, kind="reference")

    def cell(dataset, split, backbone, method):
        row = one(found, dataset=dataset, split=split, backbone=backbone, method=method)
        if row is None:
            return None
        return [score(row.difference), f"{bounds(row.low, row.high)}{paired(row)}".strip(), p_value(row.p_holm)]

    def caption(dataset):
        return (
            f"Differences in {metric(tables, dataset)} to {escape(study.reference)}, paired by seed. {rule(study)} "
            f"{over_seeds(study)} $p$: paired $t$ test, adjusted after \\citet{{holm1979}} "
            f"among the methods of a backbone and split.{of_pairs(found)}"
        )

    heads = ["difference", "interval", "$p$"]
    return grid(study, caption, "differences", heads, "rlr", 2, cell, lambda dataset, split: [])


def pretraining(tables: SimpleNamespace, study: Study) -> str:
    """Return what pre-training gives each method: scores from trained and from random weights, and their difference."""
    rows = []
    found = of(tables.differences, kind="pretraining")
    for row in found.itertuples():
        where = {"dataset": row.dataset, "split": row.split, "method": row.method}
        pair = [of(tables.scores, **where, backbone=name).test_score.iloc[0] for name in (row.backbone, row.reference)]
        rows.append([
            escape(row.backbone if len(study.datasets) == 1 else f"{row.dataset}, {row.backbone}"),
            escape(row.split), escape(row.method), *map(score, pair),
            score(row.difference), f"{bounds(row.low, row.high)}{paired(row)}".strip(), p_value(row.p_holm),
        ])  # fmt: skip
    header = [["backbone", "split", "method", "pre-trained", "random", "difference", "interval", "$p$"]]
    caption = (
        f"What pre-training gives: {metric(tables)} from pre-trained weights and from random ones of the same shape, "
        f"paired by seed. {rule(study)} {over_seeds(study)} $p$ is Holm-adjusted.{of_pairs(found)}"
    )
    return floating(tabular("lllrrrlr", header, rows), caption, "pretraining")


def every_metric(tables: SimpleNamespace, study: Study) -> str:
    """Return all metrics of each method and baseline on a dataset's first split, means over the runs that finished."""
    floats = []
    for dataset in study.datasets:
        split = study.first_split(dataset)
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


def signatures(tables: SimpleNamespace, study: Study) -> str:
    """Return how metrics were computed that can be in several ways, and which values elsewhere stand for the same."""
    comparable = {k: v for dataset in study.datasets.values() for k, v in tasks.create(dataset.task).comparable.items()}
    on: dict[tuple[str, str], list[str]] = {}
    for row in signed(tables.runs)[["dataset", "signatures"]].drop_duplicates().itertuples():
        for name, signature in json.loads(row.signatures).items():
            on.setdefault((name, signature), []).append(row.dataset)
    rows = [
        [METRICS.get(name, name), escape(", ".join(dict.fromkeys(on[name, signature]))),
         escape(signature).replace(r"\textbar{}", r"\textbar{}\allowbreak "), escape(comparable[name])]
        for name, signature in sorted(on, key=lambda pair: (list(comparable).index(pair[0]), pair[1]))
    ]  # fmt: skip
    header = [["metric", "on", "computed here as", "comparable with"]]
    caption = (
        "How the metrics of written texts were computed, as the records of the runs have it, and which values from "
        "elsewhere can be set beside them."
    )
    if not rows:  # the text refers to the table, so an empty one is still there
        return floating("No run has left the signatures of its metrics.", caption, "signatures")
    columns = "".join(rf">{{\raggedright\arraybackslash}}p{{{width}in}}" for width in (0.55, 0.85, 2.0, 2.2))
    return floating(tabular(columns, header, rows), caption, "signatures", size="scriptsize")


def signed(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs whose records say how their metrics were computed; metrics of before have none."""
    return runs[runs.signatures.notna()] if "signatures" in runs else runs.head(0).assign(signatures=None)


def metric_rows(
    rows: pd.DataFrame, names: Iterable[str], metrics: list[str], written: Mapping[str, str] = MappingProxyType({})
) -> list[list[str]]:
    """Return a row for each of some methods or baselines: the means of its metrics."""
    means = rows.groupby("method")[[f"test_{metric}" for metric in metrics]].mean()
    return [[escape(written.get(name, name)), *map(score, means.loc[name])] for name in names if name in means.index]


def failures(tables: SimpleNamespace, study: Study) -> str:
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
