"""Figures of how sure the results are: the performance profile, ranks over datasets, and what a search is worth."""

from types import SimpleNamespace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from peftstudy.evidence import aggregates, overall
from peftstudy.evidence.places import backbones, of
from peftstudy.evidence.ranks import cliques
from peftstudy.report.plotting import entitle, label_ends, looks, one_each, panels
from peftstudy.report.views import NothingToDraw, measure
from peftstudy.searching import best_so_far, expected_best
from peftstudy.study import Study


def performance_profile(data: SimpleNamespace, study: Study, dataset: str) -> Figure:
    """Draw for each method the share of runs that score above each value, over all settings of a dataset."""
    found = overall.settings(of(data.runs, dataset=dataset), study)
    if not all(found.values()):
        raise NothingToDraw("no setting has a finished run of every method")
    figure, axes = panels(1, 1, 2.4)
    here, look = axes[0, 0], looks(list(study.methods))
    every = np.concatenate([scores for runs in found.values() for scores in runs])
    thresholds = np.linspace(every.min() - 0.01, every.max() + 0.01, 400)
    for method, runs in found.items():
        here.step(thresholds, aggregates.performance_profile(runs, thresholds), where="post", color=look[method].colour,
                  ls=look[method].dashes, label=method)  # fmt: skip
    here.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    here.set_xlabel(f"{measure(data, dataset)} on test")
    here.set_ylabel("share of runs above")
    return figure


def rank_diagram(data: SimpleNamespace, study: Study, dataset: str) -> Figure:
    """Draw the mean ranks over datasets as a critical-difference diagram (Demšar, 2006): the same for any dataset."""
    if not len(data.ranks):
        raise NothingToDraw("too few datasets have a finished run of every method")
    mean = data.ranks.set_index("method").mean_rank
    bars = cliques(mean, data.ranks.critical.iloc[0])
    figure, axes = panels(1, 1, 0.16 * len(mean) + 0.12 * len(bars) + 0.5)
    here, look = axes[0, 0], looks(list(study.methods))
    half = (len(mean) + 1) // 2
    for place, (method, value) in enumerate(mean.items()):
        left = place < half
        depth = -(place + 1 if left else len(mean) - place) - 0.7 * len(bars)
        edge = 0.9 if left else len(mean) + 0.1
        here.plot([value, value, edge], [0, depth, depth], color="0.3", lw=0.5, gid="stem")
        here.annotate(method, (edge, depth), xytext=(-3 if left else 3, 0), textcoords="offset points",
                      color=look[method].ink, ha="right" if left else "left", va="center", fontsize=7)  # fmt: skip
    for row, (first, last) in enumerate(bars, 1):
        here.plot([mean[first] - 0.04, mean[last] + 0.04], [-0.7 * row] * 2, color="0", lw=2.5, gid="clique")
    here.plot([1, 1 + data.ranks.critical.iloc[0]], [1.6, 1.6], color="0", lw=1, gid="critical")
    here.annotate("critical difference", (1, 1.6), xytext=(0, 2), textcoords="offset points", fontsize=6.5)
    here.set(
        xlim=(0, len(mean) + 1), ylim=(-half - 1 - 0.7 * len(bars), 2.6), yticks=[], xticks=range(1, len(mean) + 1)
    )
    here.xaxis.set_ticks_position("top")
    here.spines[["left", "bottom"]].set_visible(False)
    here.grid(visible=False)
    here.axhline(0, color="0", lw=0.5)
    return figure


def expected_score_by_trials(data: SimpleNamespace, study: Study, dataset: str) -> Figure:
    """Draw each method's expected best validation score over the number of trials; a panel a backbone.

    Where a sampler took the rates, trials are no independent draws, and the best of the first ones is drawn. A trial
    that diverged was one all the same: it counts with the lowest score there.
    """
    split = study.first_split(dataset)
    found = of(data.searches, dataset=dataset, split=split)
    columns = [name for name in backbones(study, split, dataset) if name in set(found.backbone)]
    if not columns:
        raise NothingToDraw(f"no search on {split} has finished")
    figure, axes = one_each(columns, 2.1, f"{measure(data, dataset)} on validation")
    look = looks(list(study.methods))
    ends = {}
    for here, backbone in axes:
        for method in study.methods:
            scores = of(found, backbone=backbone, method=method).validation_score
            if scores.notna().any():
                scores = scores.fillna(of(found, backbone=backbone).validation_score.min())
                curve = best_so_far(scores) if study.search.sampler else expected_best(scores)
                here.plot(np.arange(1, len(curve) + 1), curve, color=look[method].colour, ls=look[method].dashes,
                          marker=look[method].shape, ms=3, url=f"{dataset}/{split}/{backbone}/{method}")  # fmt: skip
                ends.setdefault(here, []).append((len(curve), curve[-1], method, look[method].ink))
        entitle(here, f"{backbone}, {split}")
        here.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    label_ends(figure, ends)
    figure.supxlabel("trials", fontsize=8)
    return figure
