"""What the report says of the search for learning rates: how it chose, and whether it was fair."""

import pandas as pd

from peftstudy import searching
from peftstudy.evidence.summaries import CELL
from peftstudy.report.latex import count, escape
from peftstudy.sampling import drawn_first
from peftstudy.study import Study
from peftstudy.wording import listed

SAID = {
    "tpe": lambda first: (
        r"a tree-structured Parzen estimator \citep{bergstra2011algorithms, akiba2019optuna}, "
        f"the first {count(first)} at random"
    ),
    "gp": lambda first: rf"a Gaussian process \citep{{akiba2019optuna}}, the first {count(first)} at random",
    "qmc": lambda first: r"a scrambled Sobol sequence \citep{sobol1967distribution, akiba2019optuna}",
}


def fairness(searches: pd.DataFrame, study: Study) -> str:
    """Return in LaTeX how many trials each method had, and which chosen rates lie at the edge of their range."""
    sizes = searching.by_trials(study)
    if list(sizes) == [1]:
        return "No method searched: every learning rate was fixed beforehand."
    if len(sizes) == 1:
        said = f"Every method had the same number of trials, {count(next(iter(sizes)))} for each cell."
    else:
        parts = [f"{listed(list(map(escape, names)))} {count(size)}" for size, names in sizes.items()]
        said = rf"\textbf{{The search was not equal}}: trials were {'; '.join(parts)}."
    cells = {cell: searching.at_edge(found) for cell, found in searches.groupby(CELL, sort=False)}
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
    most = max(searching.trials(study, name) for name in study.methods)
    return f"{said} The rates of a range were taken one after another by {SAID[shape.sampler](drawn_first(most))}."


def curve(study: Study) -> str:
    """Return in LaTeX what the figure of scores by trials draws."""
    return "Best validation score" if study.search.sampler else r"Expected best validation score \citep{dodge2019show}"
