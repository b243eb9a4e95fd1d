"""What the search for learning rates was worth: the score by the number of trials, and whether it was fair."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from peftstudy.report.latex import count, escape, listed
from peftstudy.statistics import CELL
from peftstudy.study import Study


def expected_best(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the expected best of 1, 2, ... of so many trials, shape (trials,).

    scores: the validation score of each trial, drawn at random from where it was searched. Trials are
    drawn from these with replacement, as their empirical distribution has it.
    Source: Dodge et al. (2019), "Show your work", equation 1 and section 3.

    >>> expected_best([0.0, 1.0]).tolist()
    [0.5, 0.75]
    """
    ordered = np.sort(np.asarray(scores, dtype=float))
    trials = np.arange(1, len(ordered) + 1)
    below = np.arange(len(ordered) + 1)[:, None] / len(ordered)
    return (ordered[:, None] * np.diff(below**trials, axis=0)).sum(axis=0)


def at_edge(trials: pd.DataFrame) -> bool:
    """Return whether the chosen rate of a cell is the lowest or the highest that was tried."""
    chosen = trials.loc[trials.chosen, "learning_rate"]
    return len(chosen) > 0 and chosen.iloc[0] in (trials.learning_rate.min(), trials.learning_rate.max())


def fairness(searches: pd.DataFrame, study: Study) -> str:
    """Return in LaTeX how many trials each method had, and which chosen rates lie at the edge of their range."""
    sizes = {name: trials(study, name) for name in study.methods}
    if set(sizes.values()) == {1}:
        return "No method searched: every learning rate was fixed beforehand."
    if len(set(sizes.values())) == 1:
        said = f"Every method had the same number of trials, {count(next(iter(sizes.values())))} for each cell."
    else:
        by_size: dict[int, list[str]] = {}
        for name, size in sizes.items():
            by_size.setdefault(size, []).append(escape(name))
        parts = [f"{listed(names)} {count(size)}" for size, names in sorted(by_size.items(), reverse=True)]
        said = rf"\textbf{{The search was not equal}}: trials were {'; '.join(parts)}."
    cells = {cell: at_edge(found) for cell, found in searches.groupby(CELL, sort=False)}
    edges = [cell for cell, is_edge in cells.items() if is_edge]
    if not cells:
        return said
    if not edges:
        return f"{said} No chosen rate lies at the edge of its range."
    methods = listed([escape(name) for name in dict.fromkeys(cell[3] for cell in edges)])
    return (
        f"{said} In {count(len(edges))} of {count(len(cells))} cells the chosen rate lies at the edge of its range "
        f"({methods}), so that a better one may lie beyond."
    )


def trials(study: Study, method: str) -> int:
    """Return how many learning rates a method tries."""
    rates = study.methods[method].learning_rate or study.training.learning_rate
    return len(rates) if isinstance(rates, tuple) else 1
