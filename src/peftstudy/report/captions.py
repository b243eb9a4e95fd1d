"""What captions of tables say of all that they hold: which model is reported, the intervals, the mixtures."""

from types import SimpleNamespace

import pandas as pd

from peftstudy import seeds
from peftstudy.evidence import mixtures
from peftstudy.evidence.intervals import MANY
from peftstudy.report.latex import escape
from peftstudy.report.views import selection_rule
from peftstudy.study import Study


def rule(study: Study) -> str:
    return f"Reported is {selection_rule(study)} of each run."


def over_seeds(study: Study) -> str:
    number = len(study.seeds)
    if number == 1:
        return "There is one seed, so there are no intervals and no tests over seeds, which need two or more."
    return (
        f"In brackets 95\\,\\% intervals over {' '.join(seeds.counted(study.seeds))}, by {way(study)}; none where all "
        "agree, which tells nothing of the spread."
    )


def way(study: Study) -> str:
    """Return how intervals over seeds are made."""
    if min(seeds.shared(study.seeds)) > 1:
        return "their variance components and Student's t"
    return "Student's t" if len(study.seeds) < MANY else "the bias-corrected and accelerated bootstrap"


def paired(row) -> str:
    """Return how many seeds a difference rests on, and of how many; nothing where no run was lost."""
    return "" if row.pairs == row.asked else f" ({row.pairs} of {row.asked})"


def of_pairs(differences: pd.DataFrame) -> str:
    """Return what the counts of `paired` mean, where there are any."""
    lost = (differences.pairs < differences.asked).any()
    return " In round brackets: the seeds that both finished, where runs were lost." if lost else ""


def mixed(tables: SimpleNamespace) -> str:
    """Return what the marks of mixtures mean and what is mixed; nothing where nothing is."""
    found = mixtures.of(tables.runs)
    return rf"m: \textbf{{mixed}} runs, {escape(mixtures.in_words(found))}. " if found else ""
