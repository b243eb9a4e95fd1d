r"""The report's tables, read back from the LaTeX that `latex.floating` and `latex.tabular` write."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from peftstudy.report.markup import group
from peftstudy.study import Study


class Cell(NamedTuple):
    """A cell, in LaTeX; span: the columns that it takes; align: l, r or c; places: what it is about (see `placed`)."""

    latex: str
    span: int = 1
    align: str = "l"
    places: tuple[str, ...] = ()


class Rows(NamedTuple):
    """Some rows of a table, and the line that names them; empty where there is none."""

    name: str
    rows: list[list[Cell]]


class Float(NamedTuple):
    """A table with its caption; or, where it has no rows, a sentence alone."""

    label: str
    caption: str
    head: list[list[Cell]]
    groups: list[Rows]
    sentence: str = ""


def read(latex: str) -> list[Float]:
    """Return the floats of a file of results/<study>/tables/; a file without one is a sentence."""
    bodies = re.findall(r"\\begin\{table\}(.*?)\\end\{table\}", latex, flags=re.DOTALL)
    return [_float(body) for body in bodies] or [Float("", "", [], [], latex.strip())]


def _float(body: str) -> Float:
    caption = group(body, body.index(r"\caption{") + len(r"\caption"))
    label = group(body, body.index(r"\label{") + len(r"\label")).removeprefix("tab:")
    start = body.find(r"\begin{tabular}")
    if start < 0:
        return Float(label, caption, [], [], body.splitlines()[-1])
    columns = group(body, start + len(r"\begin{tabular}"))
    aligns = re.findall(r"[lrcp]", re.sub(r"[@>]\{(?:[^{}]|\{[^{}]*\})*\}|(?<=p)\{[^{}]*\}", "", columns))
    lines = [line.removesuffix("*") for line in body[start:].splitlines() if line.endswith((r"\\", r"\\*"))]
    above = body[start : body.index(r"\midrule")].splitlines()
    heads = sum(line.endswith(r"\\") for line in above)
    cells = [list(_cells(line.removesuffix(r"\\"), aligns)) for line in lines]
    return Float(label, caption, cells[:heads], list(_groups(cells[heads:], len(aligns))))


def _cells(line: str, aligns: list[str]) -> Iterator[Cell]:
    column = 0
    for text in re.split(r"(?<!\\)&", line):
        text = text.strip()
        span = re.match(r"\\multicolumn\{(\d+)\}\{(?:@\{\})?(\w)\}(?=\{)", text)
        if span:
            yield Cell(group(text, span.end()), int(span[1]), span[2])
        else:
            yield Cell(text, 1, aligns[column].replace("p", "l"))
        column += int(span[1]) if span else 1


def _groups(rows: list[list[Cell]], width: int) -> Iterator[Rows]:
    current = Rows("", [])
    for row in rows:
        if row[0].span == width and width > 1:
            if current.rows:
                yield current
            current = Rows(re.sub(r"^\\emph\{(.*)\}$", r"\1", row[0].latex), [])
        else:
            current.rows.append(row)
    if current.rows:
        yield current


def placed(found: Float, study: Study) -> Float:
    """Return a float whose cells know what they are about, as `peftstudy why` wants to hear it.

    What stands at the head of a row, above a group of rows, above a column or first in the caption is a place
    where it is the name of a dataset, a split, a backbone, a method or a seed of the study; of two methods, the
    nearer one is meant (the method `head` is a word for parameters, too), and both where they are as near.
    """
    order = ("datasets", "splits", "backbones", "methods")
    kinds = {name: kind for kind in reversed(order) for name in getattr(study, kind)}
    above: list[list[str]] = [[] for cell in (found.head or [[]])[0] for _ in range(cell.span)]
    for row in found.head:
        for cell, column in _columns(row):
            for under in above[column : column + cell.span]:
                under += _named(cell.latex, kinds)
    last = found.head[-1] if found.head else []
    seeds = [column for cell, column in _columns(last) if cell.latex == "seed"]
    whole = _caption_places(found.caption, study)

    def at(row: list[Cell], here: list[str]) -> Iterator[Cell]:
        own = [name for cell in row for name in _named(cell.latex, kinds)]
        own_seed = [f"seed-{cell.latex}" for cell, column in _columns(row) if column in seeds]
        for cell, column in _columns(row):
            of_cell = [name for name in cell.latex.split()[:1] if name in study.methods]  # lora 0.51 [0.49, 0.53]
            near: dict[str, list[str]] = {}
            for names in (whole, above[column], here, own, of_cell):
                near |= {kind: [name for name in names if kinds[name] == kind] for kind in map(kinds.get, names)}
            yield cell._replace(places=(*(name for kind in order for name in near.get(kind, ())), *own_seed))

    groups = [
        Rows(name, [list(at(row, _named(name.partition(": ")[0], kinds))) for row in rows])
        for name, rows in found.groups
    ]
    return found._replace(groups=groups)


def _columns(row: list[Cell]) -> Iterator[tuple[Cell, int]]:
    """Yield the cells of a row with the number of the column that each begins in."""
    column = 0
    for cell in row:
        yield cell, column
        column += cell.span


def _named(latex: str, known: Mapping[str, str]) -> list[str]:
    words = latex.replace(r"\_", "_").removesuffix(" (m)").split(", ")  # (m): of mixed runs
    return words if all(word in known for word in words) else []


def _caption_places(caption: str, study: Study) -> list[str]:
    """The dataset that a caption begins with where there are several; an epochs table's caption names its backbone."""
    caption = caption.replace(r"\_", "_")
    first = caption.partition(". ")[0]
    epoch = re.match(r"(\S+) on (?:(\S+), )?(\S+), epoch by epoch:", caption)
    return [first] if first in study.datasets else [place for place in epoch.groups() if place] if epoch else []
