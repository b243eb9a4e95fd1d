"""Which moves scores, the initialisation or the order: what crossed seeds say of each method."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd

from peftstudy import seeds
from peftstudy.evidence.components import components, grid_bounds
from peftstudy.report.latex import absent, bounds, escape, listed, score
from peftstudy.study import Study

FEWEST = 3
"""So many initialisations and orders it takes: the interval of a spread over two reaches up to 32 times as far."""
PARTS = {"initialization": "the initialisation", "order": "the order", "rest": "what neither explains alone"}
SEEDS = (
    "The initialisation is all that is drawn before the first step, the order what is drawn from then on: the order of "
    "examples, and dropout."
)
COLUMNS = [*(f"{part}{end}" for part in PARTS for end in ("", "_low", "_high") if part + end != "rest"), "below_zero"]
"""In spread.csv, beside `rest`, which is there for draws of the data, too."""


def levels(study: Study) -> tuple[int, int]:
    """Return how many initialisations and orders a study crosses; 0, 0 where each seed fixes both."""
    return seeds.shared(study.seeds)


def parts(runs: pd.DataFrame) -> dict[str, float | str | None]:
    """Return the standard deviations of a method's scores over initialisations, over orders, and of the rest.

    runs: the method's scored runs in one place, of one draw of the data or of several. With several, there is a
    component `draw`, too, and the others are within a draw: an order there orders other examples. The bounds are 95 %,
    for a whole grid on one draw. below_zero: the components whose estimate was negative and that are taken for 0.
    There is nothing where fewer than FEWEST initialisations or orders have runs.
    """
    found = [seeds.parse(label) for label in runs.seed]
    first, then = ([of(one) for one in found] for of in (seeds.initialization, seeds.order))
    if min(len(set(first)), len(set(then))) < FEWEST:
        return {}
    draw, scores = list(runs.dataset), runs.test_score.to_numpy(dtype=float)
    several = len(set(draw)) > 1
    factors = [first, then]
    if several:
        factors += [draw, *(list(zip(*pair, strict=True)) for pair in ((first, draw), (then, draw), (first, then)))]
    try:
        values = components(scores, *factors)
    except np.linalg.LinAlgError:
        return {}
    return _several(values) if several else _one(values, (len(set(first)), len(set(then))), len(scores))


def _one(values: np.ndarray, levels: tuple[int, int], runs: int) -> dict:
    row = _named(dict(zip(PARTS, values, strict=True)))
    # Scores that are all alike say nothing of how far others would spread.
    if runs == levels[0] * levels[1] and values[-1] > 1e-18:
        for part, (low, high) in zip(PARTS, grid_bounds(values, levels), strict=True):
            row |= {f"{part}_low": low**0.5, f"{part}_high": high**0.5}
    return row


def _several(values: np.ndarray) -> dict:
    first, then, draw, first_in_draw, then_in_draw, both, rest = values
    return _named({
        "draw": draw, "initialization": first + first_in_draw, "order": then + then_in_draw, "rest": both + rest,
    })  # fmt: skip


def _named(variances: dict[str, float]) -> dict:
    """Return standard deviations, those of negative estimates 0 and named."""
    below = [name for name, value in variances.items() if value < 0]
    deviations = {name: max(0.0, value) ** 0.5 for name, value in variances.items()}
    return deviations | {"below_zero": ", ".join(below) or None}


def largest(row: pd.Series) -> tuple[str, bool] | None:
    """Return a row's largest component, and whether its interval lies above the others'; None where none is known."""
    if absent(row.rest):
        return None
    first, *others = sorted(PARTS, key=lambda part: -row[part])
    apart = not absent(row.rest_low) and all(row[f"{first}_low"] > row[f"{other}_high"] for other in others)
    return first, apart


def sentence(found: pd.DataFrame, study: Study) -> str:
    """Return which component is the largest in how many cells, and where the intervals tell it from the others."""
    of_study = levels(study)
    if min(of_study) < FEWEST:
        return (
            f"Initialisation and order are not told apart: that takes {FEWEST} or more of each, "
            f"and the study crosses {of_study[0]} with {of_study[1]}."
        )
    known = [(row, chosen) for _, row in found.iterrows() if (chosen := largest(row))]
    if not known:
        return f"No cell has finished runs of {FEWEST} initialisations and {FEWEST} orders."
    counts = Counter(part for _, (part, _) in known).most_common()
    said = listed([f"{PARTS[part]} in {number}" for part, number in counts])
    apart = [f"{escape(row.method)} ({escape(row.split)}, {escape(row.backbone)}: {PARTS[part]})"
             for row, (part, is_apart) in known if is_apart]  # fmt: skip
    sure = f"for {listed(apart)}" if apart else "in none, so that another draw of seeds may well turn it round"
    return f"Of {len(known)} cells the largest is {said}. Its interval lies above those of the other two {sure}."


def cells(row: pd.Series, draws: bool) -> Iterator[str]:
    """Yield the cells of a row of the table: each component with its interval, the largest one bold."""
    chosen = largest(row)
    names = [*PARTS, "draw"] if draws else PARTS
    below = [] if absent(row.below_zero) else row.below_zero.split(", ")
    for part in names:
        text = f"({score(row[part])})" if part in below else score(row[part])
        yield rf"\textbf{{{text}}}" if chosen and part == chosen[0] else text
        if part in PARTS and not draws:
            yield bounds(row[f"{part}_low"], row[f"{part}_high"])


def meaning(draws: bool) -> str:
    """Return what the components and their marks mean, for a caption."""
    said = " Components by the analysis of variance; bold: the largest; in brackets: a negative estimate, taken for 0. "
    if draws:
        return said + "Draw: what another draw of the data adds; the others are within a draw."
    return said + (
        r"Intervals: 95\,\%, for normal effects, that of the rest by chi-squared, the others after "
        r"\citet{williams1962confidence}; none where a run is missing."
    )
