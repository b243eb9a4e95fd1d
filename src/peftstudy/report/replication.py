"""Published figures beside the ones found here."""

from pathlib import Path
from types import SimpleNamespace

from peftstudy import errors, statistics
from peftstudy.report.latex import absent, bounds, count, escape, floating, group, score, tabular
from peftstudy.report.result_tables import over_seeds, rule
from peftstudy.report.views import of
from peftstudy.study import Study


def read(folder: Path, name: str) -> SimpleNamespace:
    """Return the published tables `epochs`, `splits` and `parameters` in a folder under paper/reported/."""
    if not (folder / name).is_dir():
        known = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        raise errors.unknown("replicates", f"publication under {folder}", name, known)
    files = ("epochs", "splits", "parameters")
    return SimpleNamespace(**{file: statistics.read(folder / name / f"{file}.csv") for file in files})


def scores(tables: SimpleNamespace, study: Study, methods) -> str:
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
        r"$^{\ast}$: the published value lies outside the interval."
    )
    return floating(tabular("l" + "rrl" * len(splits), header, rows, lines), caption, "replication-scores")


def beside(theirs, ours) -> list[str]:
    """Return the cells published, here, interval; a mark where the interval excludes the published value."""
    value = theirs.accuracy.iloc[0] if len(theirs) else None
    if not len(ours):
        return [score(value, 2), "", ""]
    row = ours.iloc[0]
    known = not (absent(value) or absent(row.low))
    mark = r"$^{\ast}$" if known and not row.low <= value <= row.high else ""
    return [score(value, 2), score(row.test_score) + mark, bounds(row.low, row.high)]


def parameters(tables: SimpleNamespace, study: Study, methods) -> str:
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
