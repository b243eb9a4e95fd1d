"""The report as a page: one file that needs no network, and that can be read without JavaScript."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jinja2
import yaml
from markupsafe import Markup

from peftstudy import figures, files, paper
from peftstudy.evidence.summaries import CELL
from peftstudy.report import answer, bibliography, drawings, latex, markup, page_answer, page_tables, replication
from peftstudy.report.links import Link, Links, ordered
from peftstudy.report.markup import Text
from peftstudy.report.page_tables import NAMES, Linked
from peftstudy.report.views import measure
from peftstudy.study import Study

SECTIONS = {
    "Results": ("overall", "differences", "power", "predictions", "efficiency", "crossings", "failures", "losses"),
    "Costs": ("costs",),
    "What pre-training gives": ("pretraining",),
    "The published figures": tuple(replication.TABLES),
    "Data and backbones": ("data", "tokens", "backbones"),
    "Methods and settings": ("methods", "settings", "searches"),
}
"""Where the report's tables stand on the page; those not named here, under the last heading."""
ELSEWHERE = ("best-under", "claims", "scores")
"""Tables that have a place of their own; `scores` is there as the table of cells."""
CURVES = {
    "validation_score": "{} on validation", "test_score": "{} on test", "training_loss": "training loss",
    "validation_loss": "validation loss",
}  # fmt: skip


class Figure(NamedTuple):
    """A kind of figure: its drawings as SVG, its caption in LaTeX, the runs behind it."""

    kind: str
    caption: str
    drawings: list[str]
    link: Link | None


def write(results: Path, study: Study, output: Path, text: Path = Path("paper"),
          reported: Path = Path("paper/reported")) -> None:  # fmt: skip
    """Write the page of a study into `output`, the same bytes from the same results.

    results: results/<study>, with metrics, statistics, tables, numbers and the records of the runs.
    text: the folder of the hand-written text, whose page/ holds the template, the style and the script.
    """
    files.write_text(output, render(results, study, text, reported))


def render(results: Path, study: Study, text: Path, reported: Path) -> str:
    """Return the page as HTML."""
    data = paper.load(results, study, reported)
    links = Links(data.runs, study, reported)
    macros = markup.macros(files.read_text(results / "paper" / "numbers.tex"))
    works = bibliography.read(files.read_text(text / "references.bib"))
    sections = re.findall(r"\\input\{(sections/\w+)\}", files.read_text(text / "report.tex"))
    prose = "\n".join(files.read_text(text / f"{name}.tex") for name in sections)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(text / "page"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    tables = list(page_tables.report_tables(results / "tables", study, links))
    latex_text = Text(macros, works, anchors(tables, study))
    environment.filters |= {"tex": lambda value: Markup(latex_text.html(value)), "words": latex_text.words}
    choices = answer.choices(data, study)
    page = environment.get_template("report.html").render(
        study=study,
        macros=macros,
        short=page_answer.short(choices),
        cards=[page_answer.card(choice, data, links) for choice in choices],
        figures=list(drawn(data, study, links, markup.captions(prose))),
        cells=page_tables.cells(data, study, links),
        runs=page_tables.runs(study, links),
        own={kind: [table for table in tables if table.kind == kind] for kind in ELSEWHERE},
        sections=list(sectioned(tables)),
        curves=Markup(embedded(curves(data, study))),
        config=yaml.safe_dump(configuration(results), allow_unicode=True, sort_keys=False),
        machines=list(machines(data, results)),
        inputs=inputs(data),
        works=works,
        style=Markup(files.read_text(text / "page" / "page.css")),
        script=Markup(files.read_text(text / "page" / "page.js")),
    )
    return page.rstrip() + "\n"


def anchors(tables: list[Linked], study: Study) -> dict[str, str]:
    """Return the labels of the report's tables and figures, and the ids that these have on the page."""
    shown = {f"tab:{table.found.label}": table.found.label for table in tables if table.found.groups}
    return shown | {"tab:scores": "cells"} | {f"fig:{kind}": kind for kind in figures.kinds(study)}


def drawn(data: SimpleNamespace, study: Study, links: Links, captions: dict[str, str]) -> Iterator[Figure]:
    """Yield the study's figures, the scores first and the searches that went before them last."""
    scores = {"/".join(row[:4]): row[4] for row in data.scores[[*CELL, "test_score"]].itertuples(index=False)}
    scores |= {
        "/".join([*row[:4], f"seed-{row[4]}"]): row[5]
        for row in data.runs[[*CELL, "seed", "test_score"]].itertuples(index=False)
    }

    def describe(place: str) -> str:
        return f"{place}: {'no score' if latex.absent(scores.get(place)) else f'{scores[place]:.3f}'}"

    for kind in figures.kinds(study):
        yield Figure(kind, captions[kind], list(drawings.drawings(kind, data, study, describe)), links.to(kind))


def sectioned(tables: list[Linked]) -> Iterator[tuple[str, list[Linked]]]:
    """Yield the report's tables under the headings of the page."""
    named = [kind for kinds in SECTIONS.values() for kind in kinds]
    rest = tuple(dict.fromkeys(table.kind for table in tables if table.kind not in (*named, *ELSEWHERE)))
    for heading, kinds in {**SECTIONS, "In full": rest}.items():
        found = [table for kind in kinds for table in tables if table.kind == kind]
        if found:
            yield heading, found


def curves(data: SimpleNamespace, study: Study) -> dict[str, Any]:
    """Return what each run had after each epoch: the measures' names; for a run its epochs and a list a measure."""
    score = measure(data)
    epochs = ordered(data.epochs, study)
    shown = [column for column in CURVES if column in epochs and epochs[column].notna().any()]
    runs = {
        "/".join([*key[:4], f"seed-{key[4]}"]): [rounded(found[column]) for column in ("epoch", *shown)]
        for key, found in epochs.groupby([*CELL, "seed"], sort=False)
    }
    return {
        "measures": [CURVES[column].format(score) for column in shown],
        "methods": list(study.methods),
        "runs": runs,
    }


def rounded(values) -> list[float | None]:
    """Return numbers with five digits that count, whole ones without a point; gaps are None.

    >>> rounded([1.0, 0.123456789, float("nan")])
    [1, 0.12346, None]
    """
    found = [None if latex.absent(value) else float(f"{value:.5g}") for value in map(float, values)]
    return [int(value) if value is not None and value.is_integer() else value for value in found]


def embedded(value: Any) -> str:
    """Return a value as JSON that may stand in a script element, whatever it holds."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", r"\u003c")


def configuration(results: Path) -> dict[str, Any]:
    """Return the resolved configuration, without the folder of this machine's files."""
    return {key: value for key, value in files.read_json(results / "study.json").items() if key != "folder"}


def machines(data: SimpleNamespace, results: Path) -> Iterator[dict[str, Any]]:
    """Yield what runs were made with, as the record of the first one of each commit, environment and device has it."""
    done = data.runs[data.runs.status == "finished"]
    for _, same in done.groupby(["commit", "environment", "device", "precision"], sort=False, dropna=False):
        first = same.iloc[0]
        folder = results / "runs" / Path(*(first[name] for name in NAMES), f"seed-{first.seed}")
        made = files.read_sealed(folder / "record.json")["provenance"]
        machine = made.get("machine", {})
        parts = {
            "Runs": latex.count(len(same)),
            "Commit": f"{first.commit}{' with changes that were not committed' if same.dirty.any() else ''}",
            "Processor": machine.get("processor"),
            "Device": first.device,
            "Threads": machine.get("threads"),
            "System": machine.get("system"),
            "Precision": first.precision,
            "Python": made.get("python"),
            **made.get("packages", {}),
        }
        yield {name: value for name, value in parts.items() if not latex.absent(value)}


def inputs(data: SimpleNamespace) -> list[tuple[str, str, str]]:
    """Return kind, name and SHA-256 of what the runs were made from."""
    found = data.runs[["dataset", "backbone", "data_sha256"]].dropna().drop_duplicates()
    tokens = [("tokens", f"{row.dataset}, {row.backbone}", row.data_sha256) for row in found.itertuples()]
    found = data.backbones.dropna(subset=["sha256"])
    return [*tokens, *(("backbone", row.backbone, row.sha256) for row in found.itertuples())]
