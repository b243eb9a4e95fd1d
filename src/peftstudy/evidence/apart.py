"""Which moves scores, the initialisation or the order: what crossed seeds say of each method."""

import numpy as np
import pandas as pd

from peftstudy import seeds
from peftstudy.evidence.components import components, grid_bounds
from peftstudy.study import Study

FEWEST = 3
"""So many initialisations and orders it takes: the interval of a spread over two reaches up to 32 times as far."""
PARTS = {"initialization": "the initialisation", "order": "the order", "rest": "what neither explains alone"}
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
    There is nothing where fewer than FEWEST initialisations or orders have runs, or where all scores are alike.
    """
    found = [seeds.parse(label) for label in runs.seed]
    first, then = ([of(one) for one in found] for of in (seeds.initialization, seeds.order))
    if min(len(set(first)), len(set(then))) < FEWEST:
        return {}
    draw, scores = list(runs.dataset), runs.test_score.to_numpy(dtype=float)
    if np.ptp(scores) < 1e-9:
        return {}
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
    if pd.isna(row.rest):
        return None
    first, *others = sorted(PARTS, key=lambda part: -row[part])
    apart = not pd.isna(row.rest_low) and all(row[f"{first}_low"] > row[f"{other}_high"] for other in others)
    return first, apart
