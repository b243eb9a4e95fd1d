"""How many examples it takes: to overtake another method, and to come near full fine-tuning."""

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from peftstudy.evidence.components import spread
from peftstudy.evidence.places import backbones, of, sized
from peftstudy.study import Study

ENOUGH = 0.95
"""The share of the reference's score at the largest size that counts as enough."""
STEPS = 1_000
COLUMNS = ["dataset", "backbone", "kind", "method", "reference", "seeds", "smallest", "largest", "state", "examples",
           "low", "high"]  # fmt: skip


class Crossing(NamedTuple):
    """Where a curve over sizes crosses zero for the last time, and the sizes at which it may be zero.

    state: `above` or `below` wherever it is not zero, `level` where it is nowhere else, or `rises` or `falls` through
    zero at `examples`.
    low, high: the first and the last size at which the 95 % interval of the mean holds zero; infinite
    where that is the end of the sweep, None where no size is, or one seed tells no spread.
    """

    state: str
    examples: float | None
    low: float | None
    high: float | None


def crossing(sizes: np.ndarray, values: np.ndarray, level: float = 0.95, labels: Sequence | None = None) -> Crossing:
    """Return where the mean over seeds crosses zero, linear in the logarithm of the size between those measured.

    sizes: rising, shape (sizes,). values: shape (seeds, sizes). labels: the seeds; plain ones where left out. The
    interval inverts the t test of each size's mean, so that it holds the true crossing as often as it says also with
    few seeds.
    Source: Fieller (1954), for the inversion.

    >>> found = crossing(np.array([100, 400]), np.array([[-1.0, 1.0], [-1.1, 0.9]]))
    >>> found.state, round(found.examples)
    ('rises', 207)
    """
    mean = values.mean(axis=0).round(12)  # scores are fractions: what is level must not differ in the last bit
    apart = np.flatnonzero(mean)
    turns = [right for left, right in pairwise(apart) if mean[left] * mean[right] < 0]
    state = ("above" if mean[apart[-1]] > 0 else "below") if len(apart) else "level"
    examples = None
    if turns:
        right = turns[-1]
        left = right - 1
        part = mean[left] / (mean[left] - mean[right])
        examples = float(np.exp(np.log(sizes[left]) + part * np.log(sizes[right] / sizes[left])))
        state = "rises" if state == "above" else "falls"
    seeds = range(len(values)) if labels is None else labels
    return Crossing(state, examples, *_level_sizes(sizes, values, level, seeds))


def _level_sizes(
    sizes: np.ndarray, values: np.ndarray, level: float, labels: Sequence
) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    places = np.linspace(np.log(sizes[0]), np.log(sizes[-1]), STEPS)
    between = np.array([np.interp(places, np.log(sizes), row) for row in values])
    found = spread(between, labels)
    if found is None:
        return None, None
    half = stats.t.ppf((1 + level) / 2, found.independent - 1) * found.error
    may_be = np.flatnonzero(np.abs(between.mean(axis=0)) <= half)
    if not len(may_be):
        return None, None
    first, last = may_be[[0, -1]]
    return (
        float(np.exp(places[first])) if first > 0 else -np.inf,
        float(np.exp(places[last])) if last < STEPS - 1 else np.inf,
    )


def efficiency(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return for each two methods where one overtakes the other, and where each reaches ENOUGH of a reference's score.

    kind `overtakes`: the method's score minus the other's at the same size, the study's reference being the other one
    of its pairs; `reaches`: minus ENOUGH of the reference's at the largest size; both paired by seed. With one size
    there are no rows.
    """
    rows = []
    for dataset in study.datasets:
        for backbone in backbones(study, dataset=dataset):
            found = of(runs, dataset=dataset, backbone=backbone, status="finished")
            rows += _of_backbone(found[found.split.isin(sized(study, dataset))], study)
    return pd.DataFrame(rows, columns=COLUMNS)


def _of_backbone(runs: pd.DataFrame, study: Study) -> Iterator[dict]:
    sizes = runs.groupby("split").train_examples.mean().sort_values()
    if len(sizes) < 2:
        return
    scores = {method: found.pivot(index="seed", columns="split", values="test_score").reindex(columns=sizes.index)
              for method, found in runs.groupby("method")}  # fmt: skip
    known = [method for method in study.methods if method in scores]
    compared = [("overtakes", method, other, scores[other]) for method, other in _pairs(known, study.reference)]
    if study.reference in known:
        most = scores[study.reference].iloc[:, [-1] * len(sizes)].set_axis(sizes.index, axis=1)
        compared += [("reaches", method, study.reference, ENOUGH * most) for method in known]
    for kind, method, other, target in compared:
        gaps = (scores[method] - target).dropna()
        values = gaps.to_numpy()
        if len(values):
            yield {
                "dataset": runs.dataset.iloc[0], "backbone": runs.backbone.iloc[0], "kind": kind, "method": method,
                "reference": other, "seeds": len(values), "smallest": sizes.iloc[0],
                "largest": sizes.iloc[-1], **crossing(sizes.to_numpy(), values, labels=gaps.index)._asdict(),
            }  # fmt: skip


def _pairs(methods: list[str], reference: str | None) -> list[tuple[str, str]]:
    """Return each two methods once, those with the reference first and it behind.

    >>> _pairs(["full", "head", "lora"], "full")
    [('head', 'full'), ('lora', 'full'), ('head', 'lora')]
    """
    others = [method for method in methods if method != reference]
    return [(method, reference) for method in others if reference in methods] + list(combinations(others, 2))
