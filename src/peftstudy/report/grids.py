"""Tables with a row for each method, split by split, and columns for each backbone."""

from collections.abc import Callable, Sequence

from peftstudy.evidence.places import backbones
from peftstudy.report.latex import escape, floating, group, tabular
from peftstudy.study import Study

ROWS = 46
"""So many rows of a table fit a page."""


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
