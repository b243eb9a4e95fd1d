"""What the search for learning rates was worth: the score by the number of trials, and whether it was fair."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from peftstudy.report.latex import count, escape, listed
from peftstudy.sampling import drawn_first
from peftstudy.specs import several
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


def best_so_far(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the best of the first 1, 2, ... trials, shape (trials,), for trials that learn from those before.

    >>> best_so_far([0.5, 0.2, 0.7]).tolist()
    [0.5, 0.5, 0.7]
    """
    return np.maximum.accumulate(np.asarray(scores, dtype=float))


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
    return len(rates) if several(rates) else 1


def searched(study: Study) -> bool:
    """Whether any method has several learning rates to choose from."""
    return any(trials(study, name) > 1 for name in study.methods)


def rule(study: Study) -> str:
    """Return in LaTeX how a search chose."""
    shape = study.search
    size = f" on at most {count(shape.examples)} examples" if shape.examples else ""
    epochs = "one epoch" if shape.epochs == 1 else f"{shape.epochs} epochs"
    said = (
        "Where a search chose the learning rate, it was the one with the best validation score after "
        f"trials of {epochs}{size}, for each backbone and split anew."
    )
    if shape.sampler is None:
        return said
    most = max(trials(study, name) for name in study.methods)
    return f"{said} The rates of a range were taken one after another by {SAID[shape.sampler](drawn_first(most))}."


def curve(study: Study) -> str:
    """Return in LaTeX what the figure of scores by trials draws."""
    return "Best validation score" if study.search.sampler else r"Expected best validation score \citep{dodge2019show}"


SAID = {
    "tpe": lambda first: (
        r"a tree-structured Parzen estimator \citep{bergstra2011algorithms, akiba2019optuna}, "
        f"the first {count(first)} at random"
    ),
    "gp": lambda first: rf"a Gaussian process \citep{{akiba2019optuna}}, the first {count(first)} at random",
    "qmc": lambda first: r"a scrambled Sobol sequence \citep{sobol1967distribution, akiba2019optuna}",
}
