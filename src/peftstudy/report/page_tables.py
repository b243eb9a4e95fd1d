"""The tables of the page: a row a cell and a row a run, to sort and filter, and the report's tables with links."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pandas as pd

from peftstudy import files, tables
from peftstudy.evidence import bargains, summaries
from peftstudy.report import floats, latex, why
from peftstudy.report.answer import SEPARABLE
from peftstudy.report.floats import Cell, Float
from peftstudy.report.links import Link, Links, ordered
from peftstudy.study import Study

NAMES = ("dataset", "split", "backbone", "method")
NUMBER = re.compile(r"(\S+ ){0,2}(\$-\$|\\textbf\{|\+)?\d")
"""A cell with a number of its own, or a method's; an interval has the link of what it is around."""


class Column(NamedTuple):
    """A column of an explorer; align: l or r; chosen: whether the reader may pick one of its values to filter by."""

    name: str
    align: str = "r"
    chosen: bool = False


class Item(NamedTuple):
    """A cell of an explorer, in LaTeX; links: of the whole cell, or of each of its words."""

    latex: str
    links: tuple[Link, ...] = ()


class Row(NamedTuple):
    """A row of an explorer; place: its name, as `peftstudy why` takes it."""

    place: str
    cells: list[Item]


class Explorer(NamedTuple):
    """A table that can be sorted and filtered; head: the number of the column that names a row."""

    name: str
    columns: list[Column]
    rows: list[Row]
    head: int


def cells(data: SimpleNamespace, study: Study, links: Links) -> Explorer:
    """Return a row for each dataset, split, backbone and method: score, difference to the reference, costs."""
    names = shown_names(study)
    columns = [Column(name, "l", True) for name in names]
    columns += [Column("score"), Column("interval", "l"), Column("seeds", "l")]
    if study.reference:
        columns += [Column(f"minus {study.reference}"), Column("interval", "l"), Column("p")]
    columns += [Column("trained"), Column("training s"), Column("memory MB"), Column("stored kB")]
    has_energy = bool(bargains.joules(data.scores).notna().any())
    columns += [Column("energy kJ")] if has_energy else []
    scores = ordered(data.scores, study)
    cost_of = bargains.costed(scores)
    marks = dict(marked(data))
    differences = {(row.kind, *(getattr(row, name) for name in NAMES)): row for row in data.differences.itertuples()}
    runs = dict(iter(links.runs.groupby(list(NAMES), sort=False)))
    rows = []
    for index, row in scores.iterrows():
        place = tuple(row[name] for name in NAMES)
        cost = cost_of.loc[index] if index in cost_of.index else pd.Series(dtype=float)
        own = seeds(place, runs[place], links)
        text = latex.score(row.test_score)
        link = links.to("", *place)._replace(href=own.links[0].href)
        found = [Item(latex.escape(row[name])) for name in names]
        found += [Item(marks.get(place, "{}").format(text), (link,)), Item(latex.bounds(row.low, row.high)), own]
        if study.reference:
            found += against(differences.get(("reference", *place)))
        found += [
            Item(latex.count(cost.get("trained"))), Item(latex.amount(cost.get("training_seconds"))),
            Item(latex.amount(_divided(cost.get("memory"), 1e6))),
            Item(latex.amount(_divided(cost.get("stored_bytes"), 1e3))),
        ]  # fmt: skip
        found += [Item(latex.amount(_divided(cost.get("joules"), 1e3)))] if has_energy else []
        rows.append(Row("/".join(place), found))
    return Explorer("cells", columns, rows, len(names) - 1)


def marked(data: SimpleNamespace) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the cells whose score is marked, with the mark around it: the best of a setting, and what is like it."""
    close = data.differences[(data.differences.kind == "best") & ~(data.differences.p_holm < SEPARABLE)]
    for row in close.itertuples():
        yield tuple(getattr(row, name) for name in NAMES), "{}$^{{=}}$"
    for where, group in data.scores.groupby(list(NAMES[:3]), sort=False):
        best = summaries.best(group)
        if best is not None:
            yield (*where, best.method), r"\textbf{{{}}}"


def shown_names(study: Study) -> list[str]:
    """Return the columns that name a cell: one dataset need not be told from others."""
    return [name for name in NAMES if name != "dataset" or len(study.datasets) > 1]


def seeds(place: tuple[str, ...], runs: pd.DataFrame, links: Links) -> Item:
    """Return the seeds of a cell, each with a link to its run; c: collapsed, ×: without a score."""
    marks = ["×" if row.status != "finished" else "c" if row.collapsed else "" for row in runs.itertuples()]
    words = [f"{seed}{mark}" for seed, mark in zip(runs.seed, marks, strict=True)]
    return Item(" ".join(words), tuple(links.to("", *place, f"seed-{seed}") for seed in runs.seed))


def against(found) -> list[Item]:
    """Return a cell's paired difference to the reference, its interval and its adjusted p value; empty where none."""
    if found is None:
        return [Item("")] * 3
    texts = latex.score(found.difference), latex.bounds(found.low, found.high), latex.p_value(found.p_holm)
    return [Item(text) for text in texts]


def runs(study: Study, links: Links) -> Explorer:
    """Return a row for each run, in the order of metrics/runs.csv: how it ended, its scores, what it took."""
    names = shown_names(study)
    columns = [*(Column(name, "l", True) for name in names), Column("seed"), Column("ended", "l", True)]
    columns += [Column("test"), Column("validation"), Column("epoch"), Column("rate"), Column("training s")]
    columns += [Column("memory MB")]
    failed = links.runs.reason.notna().any()
    columns += [Column("why it has no score", "l")] if failed else []
    rows = []
    for row in links.runs.itertuples():
        ended = "collapsed" if row.status == "finished" and row.collapsed else row.status
        memory = row.peak_memory_bytes if latex.absent(row.peak_device_memory_bytes) else row.peak_device_memory_bytes
        texts = [
            *(latex.escape(getattr(row, name)) for name in names), str(row.seed), latex.escape(ended),
            latex.score(row.test_score, 4), latex.score(row.validation_score, 4), latex.count(row.chosen_epoch),
            latex.NONE if latex.absent(row.learning_rate) else latex.escape(f"{row.learning_rate:g}"),
            latex.amount(row.training_seconds), latex.amount(_divided(memory, 1e6)),
        ]  # fmt: skip
        texts += ["" if latex.absent(row.reason) else latex.shortened(row.reason, 120)] if failed else []
        place = "/".join([*(getattr(row, name) for name in NAMES), f"seed-{row.seed}"])
        rows.append(Row(place, [Item(text) for text in texts]))
    return Explorer("runs", columns, rows, len(names))


def _divided(value: float | None, unit: float) -> float | None:
    return None if latex.absent(value) else value / unit


class Linked(NamedTuple):
    """A table of the report whose cells have links: one for each cell of `found.groups` that rests on runs."""

    kind: str
    found: Float
    links: Mapping[Cell, Link]


def report_tables(folder: Path, study: Study, links: Links) -> Iterator[Linked]:
    """Yield the study's tables as the report has them, each float of a kind by itself."""
    for kind in tables.kinds(study):
        for found in floats.read(files.read_text(folder / f"{kind}.tex")):
            placed = floats.placed(found, study)
            yield Linked(kind, placed, dict(_cell_links(kind, placed, links)))


def _cell_links(kind: str, found: Float, links: Links) -> Iterator[tuple[Cell, Link]]:
    if why.TABLES.get(kind, why.every) is why.none:
        return
    for row in (row for group in found.groups for row in group.rows):
        for cell in row[1:]:
            verdict = kind == "claims" and cell.latex.startswith(r"\textbf{")
            link = links.to(f"claim-{row[0].latex}") if verdict else links.to(kind, *cell.places)
            if link and (verdict or (NUMBER.match(cell.latex) and kind != "claims")):
                yield cell, link
