"""The answer at the top of the page: for each dataset and backbone which method to take, its cost, how sure that is."""

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import NamedTuple

import pandas as pd

from peftstudy.evidence import bargains
from peftstudy.evidence.places import of
from peftstudy.report import answer, latex
from peftstudy.report.answer import SEPARABLE, Choice
from peftstudy.report.links import Link, Links
from peftstudy.wording import listed


class Card(NamedTuple):
    """The answer for one dataset and backbone, in LaTeX: which method, what it costs, how sure that is."""

    where: str
    take: str
    score: str
    unit: str
    baseline: str
    cost: str
    sure: str
    saving: str
    link: Link
    saving_link: Link | None


def short(choices: list[Choice]) -> str:
    """Return in a sentence which methods score best, and in how many of the settings where something was learned."""
    if not choices:
        return "No run has finished, so there is no answer."
    wins = Counter(choice.best.method for choice in choices if not choice.is_empty)
    if not wins:
        return "Nothing was learned: all runs of the methods that score best collapsed."
    method, number = wins.most_common(1)[0]
    name = rf"\textbf{{{latex.escape(method)}}}"
    if len(choices) == 1:
        return f"{name} scores best."
    if number == len(choices):
        return f"{name} scores best in {'both' if number == 2 else f'all {number}'} settings."
    others = [f"{latex.escape(other)} in {count}" for other, count in wins.most_common()[1:]]
    others += [f"nothing was learned in {empty}"] if (empty := len(choices) - wins.total()) else []
    return f"{name} scores best in {number} of {len(choices)} settings, {listed(others)}."


def card(choice: Choice, data: SimpleNamespace, links: Links) -> Card:
    """Return what the page says of a choice."""
    best, lean = choice.best, choice.lean
    name = rf"\textbf{{{latex.escape(best.method)}}}"
    other = rf"\textbf{{{latex.escape(lean.method)}}}" if lean is not None else ""
    place = (choice.dataset, choice.split, choice.backbone)
    return Card(
        where=f"{latex.escape(choice.backbone)} on {latex.escape(choice.dataset)}, {latex.escape(choice.split)}",
        take=take(choice, name, other),
        score=answer.estimate(best),
        unit=f"{answer.metric(data, choice.dataset)}{answer.runs(choice)}",
        baseline=baseline(choice, data),
        cost=(
            f"{latex.count(best.trained)} trained parameters ({latex.share(best.trained / best.backbone_parameters)} "
            f"of the backbone's), {latex.amount(best.training_seconds)} s of training, "
            f"{latex.amount(bargains.costed(best.to_frame().T.infer_objects()).memory.iloc[0] / 1e6)} MB of memory, "
            f"{latex.amount(best.stored_bytes / 1e6)} MB to store{energy(best)}"
        ),
        sure=" ".join(sure(choice, data)),
        saving=saving(choice, other),
        link=links.to("", *place, best.method),
        saving_link=links.to("", *place, lean.method) if lean is not None else None,
    )


def take(choice: Choice, name: str, other: str) -> str:
    if choice.is_empty:
        return "Take none of these methods"
    return f"Take {name}" + (f", or {other} where costs count" if choice.is_near else "")


def energy(best: pd.Series) -> str:
    joules = bargains.costed(best.to_frame().T.infer_objects()).joules.iloc[0]
    return "" if latex.absent(joules) else f", {latex.amount(joules / 1e3)} kJ"


def baseline(choice: Choice, data: SimpleNamespace) -> str:
    """Return what a baseline without a backbone scores, in a sentence."""
    return answer.baseline(choice, data).removeprefix("; ").capitalize()


def saving(choice: Choice, name: str) -> str:
    """Return what the method that trains less gives up and saves, in a sentence."""
    best, lean, gap = choice.best, choice.lean, choice.difference
    if choice.is_empty:
        return answer.NOTHING
    if choice.is_leanest:
        return answer.leanest(choice)
    if lean is None:
        return answer.NONE_LEANER
    costs = {"trained": "trained parameters", "training_seconds": "training time", "stored_bytes": "storage"}
    parts = [f"{answer.ratio(lean, best, column)} of the {what}" for column, what in costs.items()]
    difference = latex.estimate(gap.difference, gap.low, gap.high)
    return f"{name}, {answer.estimate(lean)}, takes {listed(parts)}; difference {difference}"


def sure(choice: Choice, data: SimpleNamespace) -> Iterator[str]:
    """Yield sentences on which methods the best one is told apart from, and on the one that trains less."""
    place = {"dataset": choice.dataset, "split": choice.split, "backbone": choice.backbone}
    found = of(data.differences, kind="best", **place)
    apart = set(found[found.p_holm < SEPARABLE].method)
    alike = [rf"\textbf{{{latex.escape(name)}}}" for name in choice.others.method if name not in apart]
    if alike:
        yield f"Not told apart from {listed(alike)}" + (", but from all others." if apart else ".")
    elif len(choice.others):
        yield "Told apart from every other method."
    if choice.difference is not None:
        yield f"Beside {latex.escape(choice.lean.method)}: {answer.sureness(choice).removeprefix('How sure: ')}"
