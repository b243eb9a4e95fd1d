"""Published figures beside the ones found here."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from peftstudy import errors, statistics, tasks
from peftstudy.evidence.intervals import of_one_more
from peftstudy.evidence.places import backbones, of
from peftstudy.report.captions import over_seeds, rule
from peftstudy.report.latex import NONE, absent, bounds, count, escape, floating, group, score, tabular
from peftstudy.report.views import METRICS
from peftstudy.study import Study
from peftstudy.wording import listed

PUBLISHED = {
    "epochs": ("table", "split", "backbone", "method", "epoch"),
    "splits": ("table", "split", "backbone", "method", "accuracy"),
    "parameters": ("backbone", "method", "parameters"),
    "figures": ("table", "dataset", "backbone", "method", "metric", "figure", "unit"),
}
"""The files that a publication's folder may hold, and the columns of each that are read."""
OTHERWISE = {
    "meteor_java": "METEOR (by the Java program, which also matches paraphrases)",
    "rouge_l_coco": "ROUGE-L (as for image captions, recall weighing more)",
}
"""Metrics of published figures that are not computed here, and that a metric of ours has the name of."""
TABLES = {"replication-scores": "splits", "replication-figures": "figures", "replication-parameters": "parameters"}
"""The report's tables, and the file that each is made from."""


def read(folder: Path, name: str) -> SimpleNamespace:
    """Return the published tables in a folder under paper/reported/; those that it has not are empty."""
    if not (folder / name).is_dir():
        known = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        raise errors.unknown("replicates", f"publication under {folder}", name, known)
    paths = {file: folder / name / f"{file}.csv" for file in PUBLISHED}
    return SimpleNamespace(**{
        file: statistics.read(path) if path.is_file() else pd.DataFrame(columns=PUBLISHED[file])
        for file, path in paths.items()
    })  # fmt: skip


def kinds(study: Study, folder: Path = statistics.REPORTED) -> list[str]:
    """Return which of the report's tables the publication has figures for."""
    return [kind for kind, file in TABLES.items() if (folder / str(study.replicates) / f"{file}.csv").is_file()]


def scores(tables: SimpleNamespace, study: Study) -> str:
    """Return published accuracies beside ours with their intervals, for each backbone, method and split."""
    published = tables.published.splits
    splits = [split for split in study.splits if split in set(published.split)]
    rows: list[list[str] | str] = []
    for backbone in [name for name in study.backbones if name in set(published.backbone)]:
        rows += [r"\addlinespace"] if rows else []
        rows.append(group(escape(backbone), 1 + 3 * len(splits)))
        for method in study.methods:
            row = [escape(method)]
            for split in splits:
                where = {"split": split, "backbone": backbone, "method": method}
                row += beside(of(published, **where), of(tables.scores, **where))
            rows.append(row)
    spans = ["", *(rf"\multicolumn{{3}}{{c}}{{{escape(split)}}}" for split in splits)]
    lines = "".join(rf"\cmidrule(lr){{{2 + 3 * i}-{4 + 3 * i}}}" for i in range(len(splits)))
    header = [spans, ["method", *["published", "here", "interval"] * len(splits)]]
    caption = (
        f"Accuracies as published (one run each) and as found here. {rule(study)} {over_seeds(study)} "
        r"$^{\ast}$: the published value lies where 19 of 20 further runs would not (outside the prediction interval "
        "of one run, which is wider than that of the mean)."
    )
    return floating(tabular("l" + "rrl" * len(splits), header, rows, lines), caption, "replication-scores")


def beside(theirs, ours) -> list[str]:
    """Return the cells published, here, interval; a mark where hardly a run like ours has the published value."""
    value = theirs.accuracy.iloc[0] if len(theirs) else None
    if not len(ours):
        return [score(value, 2), "", ""]
    row = ours.iloc[0]
    known = not (absent(value) or absent(row.sd)) and row.sd > 0
    low, high = of_one_more(row.test_score, row.sd, row.finished) if known else (value, value)
    mark = r"$^{\ast}$" if known and not low <= value <= high else ""
    return [score(value, 2), score(row.test_score) + mark, bounds(row.low, row.high)]


def figures(tables: SimpleNamespace, study: Study) -> str:
    """Return published figures of the datasets, methods and metrics that were measured here, beside ours.

    A row for each method on each backbone, the published ones first.
    """
    floats = []
    for dataset in study.datasets:
        published, split = of(tables.published.figures, dataset=dataset), study.first_split(dataset)
        ours = of(tables.runs, dataset=dataset, split=split, status="finished")
        metrics = [name for name in dict.fromkeys(published.metric)
                   if f"test_{name}" in ours and ours[f"test_{name}"].notna().any()]  # fmt: skip
        rows: list[list[str] | str] = []
        for method in study.methods:
            theirs = of(published[published.metric.isin(metrics)], method=method)
            if not len(theirs):
                continue
            for backbone, own in theirs.groupby("backbone", sort=False):
                rows.append([escape(method), escape(backbone), "published", *_published(own, metrics)])
            for backbone in backbones(study, split, dataset):
                here = of(ours, method=method, backbone=backbone)
                means = [here[f"test_{name}"].mean() for name in metrics]
                number = f"here, {len(here)} {'run' if len(here) == 1 else 'runs'}"
                rows.append(["", escape(backbone), number, *map(score, means)])
        if rows:
            header = [["method", "backbone", "", *(METRICS.get(name, name) for name in metrics)]]
            body = tabular("lll" + "r" * len(metrics), header, rows)
            caption = (
                f"{escape(dataset)}. Figures as published, in the units of this report, and as found here on "
                f"{escape(split)}, means over seeds. {rule(study)} Where backbones differ, the order of "
                "methods can be compared, and no more."
            )
            if tasks.create(study.datasets[dataset].task).comparable:
                caption += r" What each metric can be compared with: Table~\ref{tab:signatures}."
            if others := [OTHERWISE[name] for name in dict.fromkeys(published.metric) if name in OTHERWISE]:
                caption += f" Published, too, but measured in another way than here, so left out: {listed(others)}."
            label = f"replication-figures-{len(floats) + 1}" if floats else "replication-figures"
            floats.append(floating(body, caption, label))
    return "\n".join(floats) or "Nothing that the publication has figures of was measured here.\n"


def _published(rows: pd.DataFrame, metrics: list[str]) -> list[str]:
    """Return a published figure for each metric, divided by its unit."""
    found = rows.drop_duplicates("metric").set_index("metric")
    return [score(found.figure[name] / found.unit[name]) if name in found.index else NONE for name in metrics]


def parameters(tables: SimpleNamespace, study: Study) -> str:
    """Return published counts of trained parameters beside ours; the head is left out of both."""
    rows = []
    for row in tables.published.parameters.itertuples():
        ours = of(tables.scores, backbone=row.backbone, method=row.method).method_parameters.dropna().unique()
        here = count(ours[0]) if len(ours) == 1 else "--"
        same = "--" if len(ours) != 1 else "yes" if round(ours[0]) == row.parameters else "no"
        rows.append([escape(row.backbone), escape(row.method), count(row.parameters), here, same])
    header = [["backbone", "trained", "published", "here", "the same"]]
    caption = "Trained parameters as published and as counted here, without the head."
    return floating(tabular("llrrl", header, rows), caption, "replication-parameters")
