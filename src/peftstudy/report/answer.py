"""What the study found, in generated sentences: which method to take, what it costs, how sure that is."""

from types import SimpleNamespace
from typing import NamedTuple

import pandas as pd

from peftstudy import seeds
from peftstudy.evidence import bargains, mixtures, summaries
from peftstudy.evidence.places import backbones, of
from peftstudy.evidence.spread import is_counted
from peftstudy.report import latex
from peftstudy.report.views import measure
from peftstudy.study import Study
from peftstudy.wording import listed

BASELINES = {
    "tfidf-logistic-regression": "tf-idf with logistic regression",
    "tfidf-ridge": "tf-idf with ridge regression",
}
NEAR = 0.03
"""A method this close to the best one may be worth its savings."""
SEPARABLE = 0.05
"""Methods are told apart when the adjusted p value of their difference is below."""
NOTHING = "All of its runs collapsed, giving every example one answer: nothing was learned here."
NONE_LEANER = "No method that trains fewer parameters finished every run without collapse."


class Choice(NamedTuple):
    """The best method on one dataset, split and backbone, and the leanest of those that come near.

    others: the summaries of the other methods there that finished a run. unknown: how many finished none. seeds: what
    sentences call the study's seeds.
    """

    dataset: str
    split: str
    backbone: str
    best: pd.Series
    lean: pd.Series | None
    difference: pd.Series | None
    others: pd.DataFrame
    unknown: int
    seeds: str

    @property
    def is_near(self) -> bool:
        return self.difference is not None and self.difference.difference > -NEAR

    @property
    def is_surely_near(self) -> bool:
        """Whether the whole interval of the difference is near, and not its mean alone."""
        return self.is_near and not latex.absent(self.difference.low) and self.difference.low > -NEAR

    @property
    def is_empty(self) -> bool:
        """Whether the best method learned nothing: each of its runs gives all examples one answer."""
        return bool(self.best.collapsed >= self.best.finished)

    @property
    def leaner(self) -> pd.DataFrame:
        """The others that train fewer parameters, as far as a finished run tells."""
        return self.others[self.others.trained < self.best.trained]

    @property
    def is_leanest(self) -> bool:
        return not len(self.leaner)

    @property
    def is_whole(self) -> bool:
        """Whether every method that may train less finished every run without collapse, and so could be offered."""
        return not self.unknown and bool(bargains.is_sound(self.leaner).all())

    @property
    def is_highest(self) -> bool:
        """Whether no other mean is higher; that of a method that lost runs may be."""
        return not (self.others.test_score > self.best.test_score).any()


def choices(tables: SimpleNamespace, study: Study) -> list[Choice]:
    """Return a choice for each dataset and backbone, on the dataset's first split."""
    word = "seeds" if seeds.shared(study.seeds) == (0, 0) else "pairs of seeds"
    found = []
    for dataset in study.datasets:
        split = study.first_split(dataset)
        for backbone in backbones(study, split, dataset):
            asked = of(tables.scores, dataset=dataset, split=split, backbone=backbone)
            here = asked[asked.finished > 0]
            here = here.assign(trained=here.method_parameters + here.head_parameters)
            if len(here):
                differences = of(tables.differences, kind="best", dataset=dataset, split=split, backbone=backbone)
                chosen = choose(here, differences)
                others = here[here.method != chosen[0].method]
                found.append(Choice(dataset, split, backbone, *chosen, others, len(asked) - len(here), word))
    return found


def choose(scores: pd.DataFrame, differences: pd.DataFrame):
    """Return the best method, and of those that train less: the leanest one near it, or else the nearest one.

    A method that lost a run, or collapsed in one, is not offered: a cheap method that may fail is no bargain.
    """
    best = summaries.best(scores)
    to_best = differences.set_index("method")
    offered = bargains.is_sound(scores) & scores.method.isin(to_best.index)
    less = scores[offered & (scores.trained < best.trained)]
    if not len(less):
        return best, None, None
    losses = less.method.map(to_best.difference)
    near = less[losses > -NEAR]
    lean = near.loc[near.trained.idxmin()] if len(near) else less.loc[losses.idxmax()]
    return best, lean, to_best.loc[lean.method]


def answer(tables: SimpleNamespace, study: Study) -> str:
    """Return the report's answer in LaTeX: an item for each dataset and backbone."""
    found = choices(tables, study)
    if not found:
        return "No run has finished, so there is no answer."
    items = [r"\item " + " ".join(sentences(choice, tables, study)) for choice in found]
    return "\n".join([r"\begin{itemize}", *items, r"\end{itemize}"])


def sentences(choice: Choice, tables: SimpleNamespace, study: Study) -> list[str]:
    best, lean, gap = choice.best, choice.lean, choice.difference
    name = r"\textbf{" + latex.escape(best.method) + "}"
    where = f"On {latex.escape(choice.dataset)} at {latex.escape(choice.split)}, with {latex.escape(choice.backbone)}"
    among = "" if choice.is_highest else " of the methods that finished every run"
    score = f"{estimate(best)} {metric(tables, choice.dataset)}{runs(choice)}"
    said = [f"{where}, {name} scores best{among}: {score}{baseline(choice, tables)}."]
    if choice.is_empty:
        return [*said, NOTHING]
    if choice.is_leanest:
        return [*said, leanest(choice)]
    if lean is None:
        return [*said, NONE_LEANER]
    other = r"\textbf{" + latex.escape(lean.method) + "}"
    loss = latex.estimate(gap.difference, gap.low, gap.high)
    trained, time, stored = (ratio(lean, best, column) for column in ("trained", "training_seconds", "stored_bytes"))
    costs = f"{trained} of the trained parameters, {time} of the training time and {stored} of the storage"
    if choice.is_near:
        unsure = "" if choice.is_surely_near else " on average, while a larger loss is not ruled out"
        said.append(f"{other} comes within {NEAR:g} of it{unsure} (difference {loss}) at {costs}.")
        said.append(
            f"Take {latex.escape(best.method)} for the score alone, {latex.escape(lean.method)} where costs count."
        )
    else:
        none = "Nothing" if choice.is_whole else "Of the methods that finished every run without collapse, none"
        said.append(
            f"{none} that trains less comes within {NEAR:g} of it; the nearest, {other}, loses: {loss}, at {costs}."
        )
        said.append(f"Take {latex.escape(best.method)}, unless that saving is worth the loss.")
    return [*said, sureness(choice)]


def leanest(choice: Choice) -> str:
    """Return that the best method trains the least, in a sentence."""
    return f"It also trains the fewest parameters of {'all that finished a run' if choice.unknown else 'all'}."


def sureness(choice: Choice) -> str:
    """Return how sure it is that the best method beats the lean one."""
    gap = choice.difference
    if latex.absent(gap.detectable):
        return f"How sure: {gap.pairs} shared {'seed says' if gap.pairs == 1 else 'seeds say'} nothing of the spread."
    share = latex.share(1 - gap.improvement)
    ahead = f"How sure: {latex.escape(choice.best.method)} is ahead in {share} of all pairs of "
    pairs = f"{gap.pairs} {choice.seeds}"
    if gap.p_holm < SEPARABLE:
        return f"{ahead}their runs, and {pairs} tell the two apart ($p$~{latex.relation(gap.p_holm)})."
    visible = f"with {pairs} only a difference of {latex.score(gap.detectable)} or more would mostly be found"
    said = f"{ahead}their runs, but that may be chance: {visible}"
    if latex.absent(gap.seeds_needed):
        return f"{said}."
    if choice.seeds != "seeds":
        return f"{said}; some {latex.count(gap.seeds_needed)} seeds that share nothing would tell the two apart."
    return f"{said}; some {latex.count(max(gap.seeds_needed, gap.pairs + 1))} seeds would tell the two apart."


def estimate(row: pd.Series) -> str:
    return latex.estimate(row.test_score, row.low, row.high)


def runs(choice: Choice) -> str:
    row = choice.best
    if row.finished < row.asked:
        return f" (mean of {row.finished} of {row.asked} runs; the others came to nothing)"
    if row.finished == 1:
        return " (one seed, so no interval)"
    return f" (mean of {row.finished} {choice.seeds})"


def baseline(choice: Choice, tables: SimpleNamespace) -> str:
    """Return what a baseline without a backbone scores, and whether that is more, as the end of a sentence."""
    found = of(tables.baselines, dataset=choice.dataset, split=choice.split).dropna(subset=["test_score"])
    if not len(found):
        return ""
    row = found.loc[found.test_score.idxmax()]
    name = BASELINES.get(row.baseline, row.baseline.replace("-", " "))
    more = ", which is \\textbf{more}" if row.test_score > choice.best.test_score else ""
    return f"; without a backbone, {latex.escape(name)} scores {latex.score(row.test_score)}{more}"


def ratio(a: pd.Series, b: pd.Series, column: str) -> str:
    return latex.share(a[column] / b[column]) if b[column] else latex.NONE


def metric(tables: SimpleNamespace, dataset: str | None = None) -> str:
    return latex.escape(measure(tables, dataset))


def pretraining_gain(tables: SimpleNamespace, study: Study) -> str:
    """Return what pre-training gives each method, in a sentence for each pair of backbones."""
    gains = of(tables.differences, kind="pretraining")
    said = []
    for (dataset, split, backbone), rows in gains.groupby(["dataset", "split", "backbone"], sort=False):
        parts = [
            f"{latex.score(row.difference)} {latex.bounds(row.low, row.high)}".strip()
            + f" with {latex.escape(row.method)}"
            for row in rows.itertuples()
        ]
        said.append(
            f"On {latex.escape(dataset)} at {latex.escape(split)}, pre-training changes the "
            f"{metric(tables, dataset)} of "
            f"{latex.escape(backbone)} by {listed(parts)}."
        )
    return " ".join(said)


def sampling_error(tables: SimpleNamespace, study: Study) -> str:
    """Return how far the draw of each test part may move an accuracy: a binomial 95 % half-width."""
    parts = []
    for dataset, choice in {choice.dataset: choice for choice in reversed(choices(tables, study))}.items():
        metric, best = measure(tables, dataset), choice.best
        if metric == "accuracy" and is_counted(metric, study.datasets[dataset].task):
            half = 1.96 * (best.test_score * (1 - best.test_score) / best.test_examples) ** 0.5
            its = "its" if len(study.datasets) == 1 else f"the {latex.escape(dataset)} test part's"
            parts.append(
                f"{its} {latex.count(best.test_examples)} examples alone may move an accuracy of "
                f"{latex.score(best.test_score)} by {latex.score(half)} either way"
            )
    if not parts:
        return "The intervals over seeds do not hold the draw of the test part."
    return (
        f"The intervals are over seeds and do not hold the draw of the test part: {'; '.join(reversed(parts))} "
        "(differences, being paired on the same examples, less)."
    )


def losses(tables: SimpleNamespace) -> str:
    """Return what intervals are worth where runs collapsed or were lost; nothing where none did."""
    troubled = (tables.scores.collapsed > 0) | (tables.scores.finished < tables.scores.asked)
    if not troubled.any():
        return ""
    return (
        f"{latex.count(troubled.sum())} of {latex.count(len(troubled))} cells lost runs or had some collapse: a few "
        r"seeds tell little of how often that happens, and an interval of such a cell holds the true mean less often "
        r"than 95\,\% of the time (Table~\ref{tab:losses} has the cells, and the rates that are possible)."
    )


def comparability(tables: SimpleNamespace, study: Study) -> str:
    """Return what the runs were made with, or what they wrongly mix."""
    mixed = mixtures.of(tables.runs)
    if mixed:
        kinds = latex.escape(mixtures.in_words(mixed))
        return rf"\textbf{{The runs mix what ought to be the same}}: {kinds}. Compare costs with care."
    done = tables.runs[tables.runs.status == "finished"]
    if not len(done):
        return "No run has finished."
    row = done.iloc[0]
    threads = "" if latex.absent(row.threads) else f" with {round(row.threads)} thread{'s' * (round(row.threads) != 1)}"
    return f"All runs were made on {latex.escape(row.device)}{threads}, in {latex.escape(row.precision)}."


def headline(tables: SimpleNamespace, study: Study) -> str:
    """Return the answer in one line for the terminal."""
    lines = []
    for choice in choices(tables, study):
        best, lean = choice.best, choice.lean
        text = f"{choice.dataset} {choice.split} {choice.backbone}: {plain(best)}"
        if choice.is_empty:
            text += " (nothing was learned)"
        elif lean is not None:
            share = latex.share(lean.trained / best.trained).replace(r"\%", " %")
            text += f", {plain(lean)} at {share} of the trained parameters"
        lines.append(text)
    return "; ".join(lines) or "no run has finished"


def plain(row: pd.Series) -> str:
    interval = "" if latex.absent(row.low) else f" [{row.low:.2f}, {row.high:.2f}]"
    return f"{row.method} {row.test_score:.2f}{interval}"
