"""The table of where the spread of scores comes from."""

from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import NamedTuple

import pandas as pd

from peftstudy.evidence import apart
from peftstudy.evidence.places import main_splits, on_splits
from peftstudy.evidence.spread import draws
from peftstudy.report.captions import rule
from peftstudy.report.grids import pages, spaced
from peftstudy.report.latex import absent, bounds, escape, floating, group, score, share, tabular
from peftstudy.study import Study
from peftstudy.wording import listed

SEEDS = (
    "The initialisation is all that is drawn before the first step, the order what is drawn from then on: the order of "
    "examples, and dropout."
)


class Layout(NamedTuple):
    """A table of the spread: its columns, what they mean, and the cells of a method's row after its name."""

    heads: list[str]
    aligned: str
    meaning: str
    cells: Callable[[pd.Series], list[str]]


def table(tables: SimpleNamespace, study: Study) -> str:
    """Return where the spread of each method comes from, on the splits that are compared as such."""
    found = on_splits(tables.spread, study, main_splits)
    layout = (_crossed if min(apart.levels(study)) > 1 else _together)(found, study)
    blocks = []
    for (dataset, split, backbone), here in found.groupby(["dataset", "split", "backbone"], sort=False):
        place = [dataset] * (len(draws(study)) > 1) + [split, backbone]
        shared = here.common.iloc[0]
        note = "" if absent(shared) else f": {share(shared)} of the variance over seeds is common to all methods"
        rows = [[escape(row.method), *layout.cells(row)] for _, row in here.iterrows()]
        blocks.append([group(escape(", ".join(place)) + note, len(layout.heads)), *rows])
    caption = (
        f"Where the spread comes from, as standard deviations of the score of a run. {rule(study)} {layout.meaning} "
        "Test part: what other test examples of this number would add, where the score counts right answers. Common to "
        "all methods: the share that pairing by seed takes out of differences, by the analysis of variance of methods "
        r"and seeds \citep{searle1992variance}, 0 where its estimate is negative."
    )  # fmt: skip
    if not blocks:
        return floating("No method has finished two seeds.", caption, "spread")
    bodies = [tabular(layout.aligned, [layout.heads], spaced(some)) for some in pages(blocks)]
    return "\n".join(floating(body, caption, f"spread-{i + 1}" if i else "spread") for i, body in enumerate(bodies))


def _together(found: pd.DataFrame, study: Study) -> Layout:
    """Return the layout where a seed fixes all that is drawn in a run, or where one of its two parts never changes."""
    several = bool(found.draw.notna().any())
    first, then = apart.levels(study)
    fixes = "first values, order and dropout together"
    if max(first, then) > 1:
        fixes = "first values, at one order" if then == 1 else "order and dropout, with the same first values"
    meaning = f"Seeds: over seeds, which fix {fixes}, with its 95\\,\\% interval (chi-squared, if normal)."

    def cells(row: pd.Series) -> list[str]:
        parts = [score(row.draw), score(row.over_seeds), score(row.rest)] if several else []
        return [score(row.sd), bounds(row.low, row.high), score(row.test_part), *parts]

    if several:
        meaning += (
            " Draw, seed, both: the components of the table of draws of the data and seeds; "
            "`both' is what neither explains alone."
        )
    heads = ["method", "seeds", "interval", "test part", *(["draw", "seed", "both"] if several else [])]
    return Layout(heads, "lrlr" + "rrr" * several, meaning, cells)


def _crossed(found: pd.DataFrame, study: Study) -> Layout:
    """Return the layout where initialisations are crossed with orders."""
    several, known = bool(found.draw.notna().any()), bool(found.initialization.notna().any())
    meaning = f"{largest_parts(found, study)} Seeds: of runs whose initialisation and order are their own. {SEEDS}"
    if known:
        meaning += part_meaning(several)

    def cells(row: pd.Series) -> list[str]:
        return [score(row.sd), *(part_cells(row, several) if known else []), score(row.test_part)]

    names = ["initialisation", "order", "rest"]
    if several:
        middle, aligned = [*names, "draw"], "rrrr"
    else:
        middle, aligned = [head for name in names for head in (name, "interval")], "rlrlrl"
    heads = ["method", "seeds", *(middle if known else []), "test part"]
    return Layout(heads, f"lr{aligned if known else ''}r", meaning, cells)


def largest_parts(found: pd.DataFrame, study: Study) -> str:
    """Return which component is the largest in how many cells, and where the intervals tell it from the others."""
    of_study = apart.levels(study)
    if min(of_study) < apart.FEWEST:
        return (
            f"Initialisation and order are not told apart: that takes {apart.FEWEST} or more of each, "
            f"and the study crosses {of_study[0]} with {of_study[1]}."
        )
    known = [(row, chosen) for _, row in found.iterrows() if (chosen := apart.largest(row))]
    if not known:
        return f"No cell has scores that differ, of {apart.FEWEST} initialisations and {apart.FEWEST} orders."
    counts = Counter(part for _, (part, _) in known).most_common()
    said = listed([f"{apart.PARTS[part]} in {number}" for part, number in counts])
    clear = [f"{escape(row.method)} ({escape(row.split)}, {escape(row.backbone)}: {apart.PARTS[part]})"
             for row, (part, is_apart) in known if is_apart]  # fmt: skip
    sure = f"for {listed(clear)}" if clear else "in none, so that another draw of seeds may well turn it round"
    return f"Of {len(known)} cells the largest is {said}. Its interval lies above those of the other two {sure}."


def part_cells(row: pd.Series, draws: bool) -> Iterator[str]:
    """Yield the cells of a row of the table: each component with its interval, the largest one bold."""
    chosen = apart.largest(row)
    names = [*apart.PARTS, "draw"] if draws else apart.PARTS
    below = [] if absent(row.below_zero) else row.below_zero.split(", ")
    for part in names:
        text = f"({score(row[part])})" if part in below else score(row[part])
        yield rf"\textbf{{{text}}}" if chosen and part == chosen[0] else text
        if part in apart.PARTS and not draws:
            yield bounds(row[f"{part}_low"], row[f"{part}_high"])


def part_meaning(draws: bool) -> str:
    """Return what the components and their marks mean, for a caption."""
    said = " Components by the analysis of variance; bold: the largest; (0.000): a negative estimate, taken for 0. "
    if draws:
        return said + "Draw: what another draw of the data adds; the others are within a draw."
    return said + (
        r"Intervals: 95\,\%, for normal effects, that of the rest by chi-squared, the others after "
        r"\citet{williams1962confidence}; none where a run is missing."
    )
