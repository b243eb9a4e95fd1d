"""Tables in, figures out: each shows one thing, and its name says what."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

from matplotlib.figure import Figure

from peftstudy import statistics
from peftstudy.errors import StudyError
from peftstudy.evidence.overall import rankable
from peftstudy.evidence.places import backbones
from peftstudy.evidence.ranks import FEWEST_DATASETS
from peftstudy.report import plotting
from peftstudy.report.evidence_figures import expected_score_by_trials, performance_profile, rank_diagram
from peftstudy.report.plotting import save, style
from peftstudy.report.score_figures import (
    is_curve,
    learning_curves,
    pretraining_gain,
    score_by,
    score_by_method,
    score_by_training_examples,
)
from peftstudy.report.views import NothingToDraw
from peftstudy.searching import trials
from peftstudy.specs import Training
from peftstudy.study import Study

DRAWN: dict[str, Callable[[SimpleNamespace, Study, str], Figure]] = {
    "score-by-method": score_by_method,
    "learning-curves": learning_curves,
    "score-by-trained-parameters": score_by(
        lambda runs: runs.method_parameters + runs.head_parameters, "trained parameters, head included"
    ),
    "score-by-training-seconds": score_by(lambda runs: runs.training_seconds, "seconds of training"),
    "score-by-training-examples": score_by_training_examples,
    "pretraining-gain": pretraining_gain,
    "performance-profile": performance_profile,
    "ranks": rank_diagram,
    "expected-score-by-trials": expected_score_by_trials,
}


OF_ALL_DATASETS = ("ranks",)
"""Figures of which a study with several datasets has one."""


def kinds(study: Study) -> list[str]:
    """Return which figures the study has data for, judged by what it asks for."""
    absent = set()
    if not shown_datasets(study, "learning-curves"):
        absent.add("learning-curves")
    if not study.validation and not study.training.test_curve:
        absent.add("learning-curves")
    if not shown_datasets(study, "score-by-training-examples"):
        absent.add("score-by-training-examples")
    if not any(statistics.random_twins(study).values()):
        absent.add("pretraining-gain")
    whole = [chosen for *_, backbone, chosen in study.cells()
             if len(chosen) == len(study.methods) and not backbone.random]  # fmt: skip
    if len(whole) < 2 or len(study.methods) < 2:
        absent.add("performance-profile")
    if rankable(study) < FEWEST_DATASETS or len(study.methods) < 2:
        absent.add("ranks")
    if max(trials(study, method) for method in study.methods) < 2:
        absent.add("expected-score-by-trials")
    return [kind for kind in DRAWN if kind not in absent]


def shown_datasets(study: Study, kind: str) -> list[str]:
    """Return the datasets that a kind of figure is drawn for.

    Of curves over sizes, those with three sizes or more; of curves over epochs, those that may have two or more.
    """
    if kind in OF_ALL_DATASETS:
        return list(study.datasets)[:1]
    if kind == "learning-curves":
        return [name for name in study.datasets if may_have_epochs(study.budget(name))]
    if kind != "score-by-training-examples":
        return list(study.datasets)
    return [name for name in study.datasets if any(is_curve(study, name, backbone) for backbone in backbones(study))]


def may_have_epochs(budget: Training) -> bool:
    """Return whether runs may take several epochs: those of a budget in steps or seconds are not known before."""
    return budget.epochs > 1 or bool(budget.steps or budget.seconds or budget.minimum_steps)


def files(study: Study, kind: str) -> list[str]:
    """Return the files of one kind of figure: one for each dataset, named after it where there are several."""
    if len(study.datasets) == 1 or kind in OF_ALL_DATASETS:
        return [f"{kind}.pdf"]
    return [f"{kind}-{dataset}.pdf" for dataset in shown_datasets(study, kind)]


def names(study: Study) -> list[str]:
    """Return the files that `write` makes for a study."""
    return [file for kind in kinds(study) for file in files(study, kind)]


def write(metrics: Path, tables: Path, output: Path, study: Study) -> None:
    """Write the study's figures into `output`, from the CSVs in `metrics` and the statistics in `tables`."""
    data = SimpleNamespace(
        **{name: statistics.read(metrics / f"{name}.csv") for name in ("runs", "epochs", "baselines", "searches")},
        **{name: statistics.read(tables / f"{name}.csv") for name in statistics.STATISTICS},
    )
    if not (data.runs.status == "finished").any():
        raise StudyError(f"{metrics / 'runs.csv'}: no run has finished, so there is nothing to draw; see its reasons.")
    for kind in kinds(study):
        for file, figure in drawn(kind, data, study):
            save(figure, output / file)


def drawn(kind: str, data: SimpleNamespace, study: Study, **changes) -> Iterator[tuple[str, Figure]]:
    """Yield the files of one kind of figure with what is drawn there; `changes` are those of `style`."""
    for dataset, file in zip(shown_datasets(study, kind), files(study, kind), strict=True):
        with style(**changes):
            try:
                figure = DRAWN[kind](data, study, dataset)
            except NothingToDraw as reason:
                figure = note(f"{kind}: {reason}.")
        yield file, figure


def note(text: str) -> Figure:
    """Return a line of text in place of a figure whose runs all failed: an empty frame would say nothing."""
    figure = Figure(figsize=(plotting.TEXT_WIDTH, 0.4))
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure
