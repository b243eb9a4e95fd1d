"""The tables of how sure the results are: answers compared, what could be seen, what was lost, all settings at once."""

from types import SimpleNamespace

from peftstudy import seeds
from peftstudy.evidence.overall import SETTING, rankable, shared
from peftstudy.evidence.paired_tests import RESAMPLES
from peftstudy.evidence.places import of, one
from peftstudy.evidence.power import MOST_SEEDS, POWER
from peftstudy.evidence.ranks import FEWEST_DATASETS
from peftstudy.report.answer import metric
from peftstudy.report.captions import of_pairs, over_seeds, paired, rule
from peftstudy.report.grids import ROWS, grid, pieces
from peftstudy.report.latex import (
    NONE,
    absent,
    amount,
    bounds,
    count,
    escape,
    estimate,
    floating,
    group,
    p_value,
    relation,
    score,
    share,
    tabular,
)
from peftstudy.study import Study

CLAIMS_A_PAGE = 20


def power(tables: SimpleNamespace, study: Study) -> str:
    """Return how probably each method improves on the reference, what could be seen, and what telling apart takes."""
    found = of(tables.differences, kind="reference")

    def cell(dataset, split, backbone, method):
        row = one(found, dataset=dataset, split=split, backbone=backbone, method=method)
        if row is None:
            return None
        return [share(row.improvement), f"{score(row.detectable)}{paired(row)}", needed(row)]

    alone = "" if seeds.shared(study.seeds) == (0, 0) else ", each for initialisation and order"

    def caption(dataset):
        return (
            f"How sure the differences in {metric(tables, dataset)} to {escape(study.reference)} are. {rule(study)} "
            "Better: how probable it is that a run of the method beats one of the reference, ties counting half "
            rf"\citep{{agarwal2021deep}}. Visible: the difference that this many seeds find with a power of "
            f"{share(POWER)} (paired $t$ test, two-sided, at the level that the procedure of \\citet{{holm1979}} has "
            "for its rank among the comparisons of a backbone and split). Seeds: how many find the difference that was "
            f"seen with that power, if it and its spread are the true ones{alone}.{of_pairs(found)}"
        )

    return grid(study, caption, "power", ["better", "visible", "seeds"], "rrr", 3, cell, lambda dataset, split: [])


def needed(row) -> str:
    """Return the seeds that separate a pair; more than MOST_SEEDS are too many to name."""
    if absent(row.detectable):
        return NONE
    return rf"$>${count(MOST_SEEDS)}" if absent(row.seeds_needed) else count(row.seeds_needed)


def predictions(tables: SimpleNamespace, study: Study) -> str:
    """Return each method's answers beside the reference's: who alone is right, and exact tests of that."""
    if not len(tables.predictions):
        why = "No finished run has answers to compare: the reference lost its runs, or answers are not graded."
        return floating(why, f"Answers beside those of {escape(study.reference)}.", "predictions")

    def cell(dataset, split, backbone, method):
        row = one(tables.predictions, dataset=dataset, split=split, backbone=backbone, method=method)
        if row is None:
            return None
        mcnemar = NONE if absent(row.mcnemar_found) else f"{round(row.mcnemar_found)} of {row.seeds}"
        return [amount(row.only_method), amount(row.only_reference), mcnemar, p_value(row.p_holm)]

    def caption(dataset):
        return (
            f"Answers to the same test examples, beside those of {escape(study.reference)}. {rule(study)} It, ref.: "
            "answers that the method alone, and the reference alone, had right, a seed on average. McNemar: in how "
            r"many seeds the exact test of \citet{mcnemar1947} finds a difference (0.05). $p$: the paired permutation "
            r"test \citep{fisher1935design} of right answers over all seeds (exact; of answers that may be right in "
            rf"part, by {RESAMPLES:,} random swaps), adjusted after \citet{{holm1979}} among the "
            "methods of a backbone and split; it speaks of other test examples and the same seeds, the intervals of "
            "the other tables of other seeds and the same examples."
        )

    heads = ["it", "ref.", "McNemar", "$p$"]
    return grid(study, caption, "predictions", heads, "rrrr", 3, cell, lambda dataset, split: [])


def losses(tables: SimpleNamespace, study: Study) -> str:
    """Return the cells that lost runs: how many, how often that may happen, and the scores with and without them."""
    found = tables.scores[(tables.scores.finished < tables.scores.asked) | (tables.scores.collapsed > 0)]
    if not len(found):
        return ""
    rows = [
        [escape(row.dataset), escape(row.split), escape(row.backbone), escape(row.method),
         f"{row.asked - row.finished + row.collapsed} of {row.asked}",
         f"{share(row.lost_low)} to {share(row.lost_high)}",
         estimate(row.test_score, row.low, row.high), estimate(row.sound_score, row.sound_low, row.sound_high)]
        for row in found.head(ROWS).itertuples()
    ]  # fmt: skip
    header = [["dataset", "split", "backbone", "method", "lost", "rate", "score", "without collapsed"]]
    caption = (
        "Cells that lost runs. Lost: runs without a score, and collapsed ones. Rate: the exact 95\\,\\% interval "
        rf"\citep{{clopper1934}} of how often that happens. Score: {metric(tables)} over the runs that finished, "
        f"collapsed ones included, and without these. {rule(study)} {over_seeds(study)}"
    )
    if len(found) > ROWS:
        caption += f" The first {ROWS} of {len(found)} are shown."
    if seeds.shared(study.seeds) != (0, 0):
        caption += " The rate's interval takes runs for independent, which those that share a seed may not be."
    return floating(tabular("llllrlll", header, rows), caption, "losses", size="scriptsize")


def overall(tables: SimpleNamespace, study: Study) -> str:
    """Return each method over all settings: interquartile mean, and how probably it improves on the reference."""
    found = tables.overall.sort_values("iqm", ascending=False, kind="stable")
    if not len(found):
        return "No two settings have a finished run of every method, so there is no mean over settings.\n"
    rows = [
        [escape(row.method), count(row.runs), score(row.iqm), bounds(row.iqm_low, row.iqm_high),
         share(row.improvement), shares(row.improvement_low, row.improvement_high),
         optimism(tables, study, row.method)]
        for row in found.itertuples()
    ]  # fmt: skip
    reference = f" than {escape(study.reference)}" if study.reference else ""
    header = [["method", "runs", "mean", "interval", f"better{reference}", "interval", "optimism"]]
    caption = (
        f"All {count(found.settings.iloc[0])} settings (dataset, split, backbone) on which every method finished a "
        f"run, taken together. {rule(study)} Mean: the interquartile mean of {metric(tables)} over runs; better: the "
        r"probability of improvement; both with 95\,\% intervals by the bootstrap within settings, as defined by "
        r"\citet{agarwal2021deep}, none where all draws agree. Optimism: how much higher the score were, had each run "
        "reported its best epoch on test; a dash where epochs were not scored on test."
    )
    return floating(tabular("lrrlrlr", header, rows), caption, "overall")


def shares(low: float | None, high: float | None) -> str:
    return "" if absent(low) else f"[{share(low)}, {share(high)}]"


def optimism(tables: SimpleNamespace, study: Study, method: str) -> str:
    """Return the mean over the shared settings of a method of what choosing the epoch on test would add."""
    rows = of(tables.scores, method=method).set_index(SETTING)
    found = rows.optimism[rows.index.isin(shared(tables.runs, study))].dropna()
    return f"+{score(found.mean())}" if len(found) else NONE


def ranking(tables: SimpleNamespace, study: Study) -> str:
    """Return a sentence on the ranks over datasets: Friedman's test, or why there is none."""
    found = tables.ranks
    if not len(found):
        asked = rankable(study)
        has = f"{'asks for' if asked < len(study.datasets) else 'has'} {count(asked)}"
        if asked >= FEWEST_DATASETS:
            has = f"asks for {count(asked)}, but not all finished on so many"
        if len(study.methods) < 2:
            has = "has one method"
        return (
            f"Ranks over datasets, with Friedman's test, need {FEWEST_DATASETS} datasets or more on which all methods "
            f"finished; this study {has}, so none are given."
        )
    row = found.iloc[0]
    return (
        f"Over {count(row.datasets)} datasets Friedman's test that all methods are alike has "
        f"$p$~{relation(row.p)}; two methods are told apart when their mean ranks differ by "
        f"{score(row.critical, 2)} or more (Nemenyi's test, 0.05)."
    )


def claims(tables: SimpleNamespace, study: Study) -> str:
    """Return each claim in a sentence, with what the intervals say of it: the study's own, then the published ones."""
    found = tables.claims
    if not len(found):
        return "The publication that this study replicates has no claims here.\n"
    rows: list[list[str] | str] = []
    for number, row in enumerate(found.itertuples(), 1):
        if row.origin != study.name and row.origin not in found.origin[: number - 1].tolist():
            rows.append(group(f"published ({escape(row.origin)})", 4))
        seeds = "" if absent(row.seeds_needed) else f" ({count(row.seeds_needed)} seeds)"
        rows.append([str(number), escape(row.sentence), rf"\textbf{{{row.verdict}}}{seeds}", escape(row.evidence)])
    columns = r"r>{\raggedright}p{2.0in}>{\raggedright}p{0.8in}>{\raggedright\arraybackslash}p{2.4in}"
    header = [["", "claim", "here", "evidence"]]
    caption = (
        f"Claims, tested here. {rule(study)} A claim holds when every interval that it rests on lies within what it "
        "says, fails when one of them lies beyond, and is undecided otherwise; in brackets how many seeds would "
        f"decide it, all its open parts together, with a power of {share(POWER)}, if means and spreads are the true "
        "ones. "
        r"Differences are paired by seed, with 95\,\% intervals. Where every run of what is compared collapsed, "
        "nothing was learned, and the claim is undecided."
    )
    return "\n".join(
        floating(tabular(columns, header, some), caption, f"claims-{i + 1}" if i else "claims", size="scriptsize")
        for i, some in enumerate(pieces(rows, CLAIMS_A_PAGE))
    )
