"""Claims: how statements are read, what decides them, and the published ones held against their own figures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import course_study, default_study, write_metrics

from peftstudy import statistics
from peftstudy.errors import StudyError
from peftstudy.evidence import claims, measures, power, summaries, verdicts
from peftstudy.evidence.claims import Statement, expand, read
from peftstudy.evidence.intervals import Interval
from peftstudy.evidence.verdicts import Finding, verdict
from peftstudy.report import replication
from peftstudy.specs import Claim

REPORTED = Path(__file__).parents[1] / "paper" / "reported"


def test_a_statement_is_a_sum_between_bounds():
    found = read("bitfit@30-70 >= full@30-70 - 0.01", "c")
    assert [(factor, term.method, term.split) for factor, term in found.terms] == [
        (1.0, "bitfit", "30-70"), (-1.0, "full", "30-70"),
    ]  # fmt: skip
    assert (found.low, found.low_within, found.high) == (-0.01, True, float("inf"))
    found = read("2 * memory(small/lora) < memory(bert-tiny/full) + 10 - 3", "c")
    assert [(factor, *term) for factor, term in found.terms] == [
        (2.0, "memory", "small", "lora", None), (-1.0, "memory", "bert-tiny", "full", None),
    ]  # fmt: skip
    assert (found.high, found.high_within) == (7, False)
    found = read("-0.02 < full - bitfit <= 0.03", "c")
    assert (found.low, found.low_within, found.high, found.high_within) == (-0.02, False, 0.03, True)
    found = read("0.03 >= full - bitfit > -0.02", "c")
    assert (found.low, found.low_within, found.high, found.high_within) == (-0.02, False, 0.03, True)


def test_braces_within_braces():
    assert expand("{a/{x,y},b} > c") == ["a/x > c", "a/y > c", "b > c"]


@pytest.mark.parametrize(
    "text",
    ["full", "full > ", "0.3 > 0.2", "full >= lora ~ 2", "memory(full > lora", "full > lora > head", "a < b > c"],
)
def test_what_is_no_statement_is_refused(text):
    with pytest.raises(StudyError, match=r"^c: means: .* want measures of methods, such as"):
        read(text, "c")


def test_deviations_are_those_from_the_median():
    runs = pd.DataFrame({"test_score": [0.5, 0.6, 0.9], "seed": [0, 1, 2], "status": "finished"})
    runs = runs.assign(dataset="d", split="90-10", backbone="b", method="m")
    epochs = runs[["dataset", "split", "backbone", "method", "seed"]]
    term = read("deviation(m) > 0", "c").terms[0][1]
    assert measures.Results(runs, epochs).of(term, "d", "90-10", "b").tolist() == pytest.approx([0.1, 0, 0.3])
    assert not len(measures.Results(runs[:1], epochs).of(term, "d", "90-10", "b"))


def test_a_claim_about_what_the_study_has_not_is_undecided(tmp_path):
    study = replace(default_study(), claims=(Claim("Nowhere.", ("full > head",), splits=("official-30",)),))
    write_metrics(tmp_path, study)
    found = verdicts.check(study, *(statistics.read(tmp_path / f"{name}.csv") for name in ("runs", "epochs")), tmp_path)
    assert found.iloc[0][["verdict", "evidence"]].tolist() == ["undecided", "not run in any of its places"]


def test_every_derived_measure_is_known_and_measured():
    assert tuple(measures.MEASURES) == claims.DERIVED
    assert {"accuracy", "method_parameters", "training_seconds"} <= set(claims.known_measures())


@pytest.mark.parametrize(
    "value, low, high, said",
    [
        ((0.2, 0.1, 0.3), 0, np.inf, "holds"),
        ((0.2, -0.1, 0.5), 0, np.inf, "undecided"),
        ((-0.2, -0.3, -0.1), 0, np.inf, "fails"),
        ((0.01, -0.01, 0.03), -0.02, 0.02, "undecided"),
        ((0.0, -0.01, 0.01), -0.02, 0.02, "holds"),
        ((0.5, 0.4, 0.6), -0.02, 0.02, "fails"),
        ((0.2, None, None), 0, np.inf, "undecided"),
        (None, 0, np.inf, "undecided"),
        ((0, 0, 0), 0, np.inf, "fails"),
    ],
)
def test_intervals_decide(value, low, high, said):
    found = Finding("x", Statement("", (), low, high), value and Interval(*value))
    assert found.verdict == said


def test_a_backbone_without_a_method_of_the_claim_is_not_one_of_its_places(made):
    study, runs, epochs = made
    backbones = study.backbones | {"roberta-tiny": replace(study.backbones["roberta-tiny"], methods=("full", "head"))}
    some = replace(study, backbones=backbones)
    assert judged((study, runs, epochs), "full > prompt", splits=("30-70",)).evidence.count("tiny") == 2
    assert judged((some, runs, epochs), "full > prompt", splits=("30-70",)).evidence.startswith("full")
    assert "roberta" not in judged((some, runs, epochs), "full > prompt", splits=("30-70",)).evidence
    none = replace(some, backbones={"roberta-tiny": backbones["roberta-tiny"]})
    assert judged((none, runs, epochs), "full > prompt").evidence == "not run in any of its places"
    assert judged((none, runs, epochs), "full > prompt", datasets=("libraries",)).verdict == "undecided"


def test_equal_counts_satisfy_at_least_and_not_more_than():
    at_least = Statement("", (), low=0, low_within=True)
    assert Finding("x", at_least, Interval(0, 0, 0)).verdict == "holds"
    assert Finding("x", at_least, Interval(-1, -1, -1)).verdict == "fails"


def test_one_that_fails_is_enough_and_all_must_hold():
    good, bad = (Finding("a", Statement("", (), low=0), Interval(*[value] * 3)) for value in (1, -1))
    assert verdict([good, bad]) == "fails" and verdict([good]) == "holds"
    assert verdict([good, Finding("c", Statement("", (), low=0), None)]) == "undecided"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    study = default_study()
    folder = write_metrics(tmp_path_factory.mktemp("metrics"), study)
    return study, statistics.read(folder / "runs.csv"), statistics.read(folder / "epochs.csv")


def judged(made, *means, **where):
    study, runs, epochs = made
    claim = Claim("s", means, **where)
    return verdicts.check(replace(study, claims=(claim,)), runs, epochs, REPORTED).iloc[0]


def test_a_claim_is_about_each_of_its_places(made):
    _, runs, _ = made
    row = judged(made, "lora >= full - 0.05", splits=("30-70",), backbones=("bert-tiny", "roberta-tiny"))
    assert (row.origin, row.verdict) == ("default", "holds")
    means = [
        summaries.scores_by_seed(runs[(runs.split == "30-70") & (runs.backbone == b) & (runs.method == m)])
        for b in ("bert-tiny", "roberta-tiny") for m in ("lora", "full")
    ]  # fmt: skip
    for value in ((means[0] - means[1]).mean(), (means[2] - means[3]).mean()):
        assert f"{abs(value):.3f}" in row.evidence
    assert judged(made, "lora > full").verdict == "fails"
    assert judged(made, "head + 0.1 < lora", "memory(head) < memory(full)").verdict == "holds"


def test_an_open_claim_says_how_many_seeds_would_decide(made):
    _, runs, _ = made
    row = judged(made, "roberta-tiny/lora > roberta-tiny/encoder")
    assert row.verdict == "undecided"
    main = runs[runs.split == "90-10"]
    a, b = (
        summaries.scores_by_seed(main[(main.backbone == "roberta-tiny") & (main.method == m)])
        for m in ("lora", "encoder")
    )
    assert row.seeds_needed == power.seeds_to_separate((a - b).mean(), (a - b).std()) or np.isnan(row.seeds_needed)


def test_both_bounds_and_all_open_statements_are_to_be_decided_together(made):
    """By simulation: so many seeds leave a claim open in a fifth of studies at most."""
    statement = read("-0.02 < full - bitfit < 0.02", "c")
    one = Finding("", statement, Interval(0.0, -0.05, 0.05), sd=0.02, seeds=3)
    seeds = one.seeds_needed(power.POWER)
    draws = np.random.default_rng(0).normal(0, 0.02, (4000, seeds))
    half = stats.t.ppf(0.975, seeds - 1) * draws.std(axis=1, ddof=1) / seeds**0.5
    within = np.abs(draws.mean(axis=1)) + half < 0.02
    assert 0.78 < within.mean() < 0.9
    statement = "roberta-tiny/lora > roberta-tiny/full"
    assert judged(made, statement).seeds_needed < judged(made, statement, statement).seeds_needed


def test_runs_that_came_to_nothing_are_named(made):
    study, runs, epochs = made
    gone = (runs.method == "lora") & (runs.seed != 0)
    lost = study, runs.assign(status=runs.status.mask(gone, "diverged")), epochs
    row = judged(lost, "lora > full", **PLACE)
    assert "(no interval) (2 of 3 runs of lora came to nothing)" in row.evidence
    lost = study, runs.assign(status=runs.status.mask(runs.method == "lora", "failed")), epochs
    assert judged(lost, "lora > full", **PLACE).evidence.endswith("not measured (3 of 3 runs of lora came to nothing)")


def test_counts_that_agree_over_seeds_decide_and_scores_that_do_not(made):
    study, runs, epochs = made
    assert judged(made, "method_parameters(bitfit) < method_parameters(full)").verdict == "holds"
    alike = runs.assign(test_score=np.where(runs.method == "full", 0.9, 0.8))
    row = judged((study, alike, epochs), "full > lora", backbones=("roberta-tiny",))
    assert row.verdict == "undecided" and "(no interval)" in row.evidence


def with_collapsed(made, **seeds):
    """The study of `made`, whose runs of some methods collapsed: method -> seeds."""
    study, runs, epochs = made
    for method, lost in seeds.items():
        own = (runs.method == method) & runs.seed.isin(lost)
        runs = runs.assign(collapsed=runs.collapsed | own, test_score=runs.test_score.mask(own, 0.1))
    return study, runs, epochs


ALL = (0, 1, 2)
PLACE = {"splits": ("30-70",), "backbones": ("bert-tiny",)}


def test_where_nothing_was_learned_nothing_is_decided(made):
    """Both sides have one score and no spread, as where every run writes nothing at all."""
    lost = with_collapsed(made, lora=ALL, prompt=ALL)
    row = judged(lost, "method_parameters(lora) > 0", "prompt > lora", **PLACE)
    assert row.verdict == "undecided" and not row.seeds_needed
    assert row.evidence == (
        f"prompt {verdicts.MINUS} lora (bert-tiny): nothing was learned there: "
        "every run of prompt and lora gave all examples one answer"
    )
    assert judged(lost, "prompt > 0.3", **PLACE).verdict == "undecided"
    # Costs are measured all the same, and a comparison that failed elsewhere has failed.
    assert judged(lost, "method_parameters(prompt) < method_parameters(lora)", **PLACE).verdict == "holds"
    assert judged(lost, "prompt > lora", "head > full", **PLACE).verdict == "fails"


def test_what_collapsed_on_one_side_is_a_finding_and_says_so(made):
    lost = with_collapsed(made, prompt=ALL, head=(1,))
    row = judged(lost, "full > prompt", **PLACE)
    assert row.verdict == "holds" and row.evidence.endswith(" (3 of 3 runs of prompt collapsed)")
    row = judged(lost, "lora@30-70 > head", **PLACE)
    assert " [" in row.evidence and row.evidence.endswith(" (1 of 3 runs of head collapsed)")
    assert "collapsed" not in judged(lost, "training_seconds(full) > training_seconds(prompt)", **PLACE).evidence


def test_gains_between_what_learned_nothing_decide_nothing(made):
    """A gain of a gain: two of its three cells collapsed, on both sides of it, or on one."""
    lost = with_collapsed(made, prompt=ALL, lora=ALL)
    assert "nothing was learned" in judged(lost, "prompt - lora < lora - full", **PLACE).evidence
    assert "nothing was learned" not in judged(lost, "prompt - full < full - lora", **PLACE).evidence


CLAIM = {"sentence": "s", "means": "full > lora"}


@pytest.mark.parametrize(
    "change, said",
    [
        ({"means": "full > lroa"}, "c: claims, item 1: means: unknown method 'lroa' (known: "),
        ({"means": "acuracy(full) > 0.5"}, "c: claims, item 1: means: unknown measure 'acuracy' (known: "),
        ({"means": "tiny/full > full"}, "c: claims, item 1: means: unknown backbone 'tiny' (known: "),
        ({"means": "full@10-90 > 0.5"}, "c: claims, item 1: means: unknown split '10-90' (known: "),
        ({"datasets": ["imbd"]}, "c: claims, item 1: datasets: unknown dataset 'imbd' (known: libraries)."),
        ({"splits": ["10-90"]}, "c: claims, item 1: splits: unknown split '10-90' (known: "),
        ({"backbones": ["tiny"]}, "c: claims, item 1: backbones: unknown backbone 'tiny' (known: "),
        ({"means": "full is best"}, "c: claims, item 1: means: cannot read 'is' in 'full is best'; want measures"),
    ],
)
def test_a_claim_about_what_the_study_has_not_is_refused(change, said):
    with pytest.raises(StudyError) as error:
        claims.check(default_study(claims=[CLAIM | change]), "c")
    assert str(error.value).startswith(said)


@pytest.fixture(scope="module")
def published_runs():
    """The published figures as if three seeds had given them, with a hair's breadth between seeds."""
    published = replication.read(REPORTED, "course-report")
    jitter = {0: -0.0005, 1: 0.0, 2: 0.0005}
    runs, epochs = [], []
    for seed, shift in jitter.items():
        # Seeds differ by another hair in each row: differences that are all alike decide nothing.
        columns = (published.splits.accuracy, published.epochs.held_out_accuracy, published.epochs.training_loss)
        accuracy, held_out, loss = (values + shift * np.linspace(1, 1.4, len(values)) ** 2 for values in columns)
        frame = published.splits.assign(dataset="imdb", seed=seed, status="finished", test_score=accuracy)
        seconds = published.epochs.groupby(["backbone", "method"]).training_seconds.sum()
        index = pd.MultiIndex.from_frame(frame[["backbone", "method"]])
        frame["training_seconds"] = seconds.reindex(index).to_numpy() * (1 + shift)
        runs.append(
            frame.assign(
                epochs=10, peak_memory_bytes=1e8, peak_device_memory_bytes=None, method_parameters=None, collapsed=False
            )
        )
        epochs.append(
            published.epochs.assign(
                dataset="imdb", seed=seed, test_score=held_out, training_loss=loss, validation_score=None
            )
        )
    return pd.concat(runs, ignore_index=True), pd.concat(epochs, ignore_index=True)


PUBLISHED = {
    "full-is-best": "Training everything scores best", "losses-fall": "The training loss falls",
    "full-overfits": "On TinyRoBERTa, training everything reaches", "bitfit-leads": "BitFit scores best",
    "prompt-is-lowest": "Prompt tuning with 20 tokens", "time-ratio": "An epoch of TinyRoBERTa",
    "selective-is-faster": "Training a part of the layers takes", "bitfit-is-fastest": "BitFit takes the least time",
    "bitfit-trains-least": "BitFit trains the fewest", "best-choice": "TinyRoBERTa with BitFit is faster",
    "encoder-overtakes": "On TinyBERT, training the encoder", "prompt-loses-little": "Prompt tuning loses",
    "bitfit-depends": "BitFit depends",
}  # fmt: skip


def published_verdicts(runs, epochs):
    found = verdicts.check(course_study(), runs, epochs, REPORTED).set_index("sentence").verdict
    assert len(found) == 18
    return {
        name: next(found[text] for text in found.index if text.startswith(start)) for name, start in PUBLISHED.items()
    }


def test_published_claims_are_about_what_the_publication_has():
    own = [claim for _, claim in verdicts.published(course_study(), REPORTED)]
    claims.check(replace(course_study(), claims=tuple(own)), "claims.yaml")


def test_claims_are_read_off_the_figures_that_they_came_from(published_runs):
    """Fed with the published figures, the checks agree with the report, but where it disagrees with its own tables."""
    found = published_verdicts(*published_runs)
    for name in ("losses-fall", "full-overfits", "selective-is-faster", "prompt-loses-little"):
        assert found[name] in ("holds", "undecided"), name
    for name in ("full-is-best", "time-ratio", "bitfit-is-fastest", "best-choice", "encoder-overtakes",
                 "bitfit-depends"):  # fmt: skip
        assert found[name] == "holds", name
    # Their table 11 has BitFit, and not prompt tuning, lowest on TinyBERT.
    assert found["bitfit-leads"] == "fails" and found["prompt-is-lowest"] == "fails"
    assert found["bitfit-trains-least"] == "undecided"


def test_verdicts_turn_when_the_scores_do(published_runs):
    runs, epochs = published_runs
    runs = runs.copy()
    runs.loc[runs.method == "full", "test_score"] -= 0.3
    assert published_verdicts(runs, epochs)["full-is-best"] == "fails"


def test_claims_about_nothing_are_undecided():
    empty = verdicts.check(course_study(), *(
        pd.DataFrame(columns=columns) for columns in (
            [*summaries.CELL, "seed", "status", "test_score"],
            [*summaries.CELL, "seed", "epoch", "training_loss", "test_score", "validation_score"],
        )
    ), REPORTED)  # fmt: skip
    assert set(empty.verdict) == {"undecided"} and set(empty.evidence.str[-12:]) == {"not measured"}


def test_a_claim_that_names_no_datasets_is_about_those_that_its_methods_are_run_on():
    block = {"source": "docstrings", "task": "classification", "text": "text", "label": "library"}
    study = default_study(datasets={"a": block, "b": block | {"methods": ["full", "lora"]}})
    asked = {
        means: {place[0] for place in verdicts.places(claim, claims.read(means, ""), study)}
        for means in ("lora > full", "bitfit > full")
        for claim in [Claim("sentence", (means,))]
    }
    assert asked == {"lora > full": {"a", "b"}, "bitfit > full": {"a"}}


def test_a_curve_that_nobody_logged_converges_nowhere():
    """Without a validation part, and without test scores of every epoch."""
    keys = {"dataset": "d", "split": "90-10", "backbone": "b", "method": "m", "seed": 0}
    runs = pd.DataFrame([keys | {"status": "finished", "test_score": 0.5}])
    epochs = pd.DataFrame([keys | {"epoch": e, "test_score": np.nan, "validation_score": np.nan} for e in (1, 2)])
    term = read("epochs_to_converge(m) > 0", "c").terms[0][1]
    assert not len(measures.Results(runs, epochs).of(term, "d", "90-10", "b"))
    there = measures.Results(runs, epochs.assign(validation_score=[0.4, 0.5])).of(term, "d", "90-10", "b")
    assert there.tolist() == [2]


def test_a_claim_without_splits_is_about_the_first_of_each_dataset():
    block = {"source": "docstrings", "task": "classification", "text": "text", "label": "library"}
    study = default_study(datasets={"one": block, "other": block | {"splits": ["30-70"]}})
    claim = Claim("Which?", ("full > head",))
    [statement] = claims.statements(claim, "c")
    found = {(dataset, split) for dataset, split, _ in verdicts.places(claim, statement, study)}
    assert study.splits[0] == "90-10" and found == {("one", "90-10"), ("other", "30-70")}
