"""A row of results for each dataset, split, backbone and method, and the paired differences between them."""

import pandas as pd

from peftstudy.evidence import mixtures, power
from peftstudy.evidence.aggregates import probability_of_improvement
from peftstudy.evidence.components import spread
from peftstudy.evidence.intervals import over_seeds, rate
from peftstudy.evidence.paired_tests import holm, holm_levels, paired_difference

CELL = ["dataset", "split", "backbone", "method"]
COSTS = [
    "learning_rate", "epochs", "train_examples", "test_examples", "method_parameters", "head_parameters",
    "backbone_parameters", "stored_bytes", "setup_seconds", "training_seconds", "evaluation_seconds",
    "forward_seconds", "backward_seconds", "optimizer_seconds", "examples_per_second",
    "peak_memory_bytes", "peak_device_memory_bytes", "device_joules", "processor_joules",
]  # fmt: skip
COUNTS = [
    "metric", "asked", "finished", "diverged", "failed", "missing", "collapsed", "mixed", "lost_low",
    "lost_high",
]  # fmt: skip
SCORES = [
    "test_score", "sd", "low", "high", "sound_score", "sound_low", "sound_high", "optimism", "validation_score",
]  # fmt: skip
COMPARED = ["pairs", "asked", "difference", "low", "high", "p", "improvement"]


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each dataset, split, backbone and method: how its runs ended, score, interval, costs.

    Runs that failed or are missing are counted and leave the means; collapsed runs are counted and stay
    in them, for a collapse is what the method gave. sound_score and its bounds are without those, too.
    mixed: which of mixtures.MUST_AGREE differ among its runs. lost_low, lost_high: the interval of the rate of runs
    that came to nothing or collapsed. optimism: how much higher the score were, had the epoch been chosen on
    test; known where every epoch was scored there.
    """
    rows = []
    for cell, group in runs.groupby(CELL, sort=False):
        done = group[group.status == "finished"]
        row = dict(zip(CELL, cell, strict=True)) | {
            "metric": next(iter(group.metric.dropna()), None),
            "asked": len(group),
            **{state: int((group.status == state).sum()) for state in ("finished", "diverged", "failed", "missing")},
            "collapsed": int(done.collapsed.sum()),
            "mixed": ", ".join(mixtures.of(group)) or None,
        }
        _, row["lost_low"], row["lost_high"] = rate(len(group) - len(done) + row["collapsed"], len(group))
        if len(done):
            scores = done.set_index("seed").test_score
            row |= dict(zip(("test_score", "low", "high"), over_seeds(scores), strict=True))
            over = spread(scores.to_numpy(dtype=float), scores.index)
            row |= {"sd": None if over is None else float(over.sd)}
            row |= {column: done[column].mean() for column in ("validation_score", *COSTS)}
            row["optimism"] = (done.best_epoch_score - done.test_score).mean()
        sound = done[~done.collapsed.astype(bool)]
        if len(sound):
            found = over_seeds(sound.set_index("seed").test_score)
            row |= dict(zip(("sound_score", "sound_low", "sound_high"), found, strict=True))
        rows.append(row)
    return pd.DataFrame(rows, columns=[*CELL, *COUNTS, *SCORES, *COSTS])


def best(cells: pd.DataFrame) -> pd.Series | None:
    """Return the summary with the highest mean, of those that finished every run where there are any.

    A mean over fewer runs may be high because the hard ones are missing.
    """
    scored = cells[cells.finished > 0]
    whole_ones = scored[scored.finished == scored.asked]
    candidates = whole_ones if len(whole_ones) else scored
    return candidates.loc[candidates.test_score.idxmax()] if len(candidates) else None


def differences(runs: pd.DataFrame, reference: str | None, random: dict[str, str]) -> pd.DataFrame:
    """Return paired differences of test scores, Holm-adjusted among those of one kind, split and backbone.

    kind `reference`: a method minus the reference method; `best`: a method minus the `best` one there;
    `pretraining`: a backbone minus the one of its shape with random weights, same method.
    random: the backbone with random weights -> the backbone that it is the twin of. asked: the runs that the method
    was to have; pairs: the seeds that both finished.
    """
    asked = runs.groupby(CELL).size()
    scores = {cell: scores_by_seed(group) for cell, group in runs.groupby(CELL, sort=False)}
    scores = {cell: values for cell, values in scores.items() if len(values)}
    leaders = {where: best(cells) for where, cells in summarise(runs).groupby(CELL[:3])}
    rows, gaps = [], []
    for dataset, split, backbone in dict.fromkeys(cell[:3] for cell in scores):
        here = {cell[3]: values for cell, values in scores.items() if cell[:3] == (dataset, split, backbone)}
        leader = leaders[dataset, split, backbone].method
        where = {"dataset": dataset, "split": split, "backbone": backbone}
        twins = [name for name, trained in random.items() if trained == backbone]
        pairs = [("reference", method, reference, here.get(reference)) for method in here if method != reference]
        pairs += [("best", method, leader, here[leader]) for method in here if method != leader]
        pairs += [
            ("pretraining", method, twin, scores.get((dataset, split, twin, method)))
            for twin in twins for method in here
        ]  # fmt: skip
        for kind, method, other, values in pairs:
            if values is not None and len(values.index.intersection(here[method].index)):
                names = {**where, "kind": kind, "method": method, "reference": other}
                rows.append(names | {"asked": asked[dataset, split, backbone, method]} | compare(here[method], values))
                gaps.append(here[method] - values)
    frame = pd.DataFrame(rows, columns=["dataset", "split", "backbone", "kind", "method", "reference", *COMPARED])
    families = frame.groupby(["dataset", "split", "backbone", "kind"], sort=False)["p"]
    frame["p_holm"] = families.transform(holm) if len(frame) else []
    levels = families.transform(holm_levels) if len(frame) else []
    found = [visible(*each) for each in zip(gaps, frame.difference, levels, strict=True)]
    return frame.join(pd.DataFrame(found, columns=["detectable", "seeds_needed"]))


def visible(gaps: pd.Series, difference: float, level: float) -> tuple[float | None, int | None]:
    """Return what so many pairs would see, at the level at which Holm's procedure tests them.

    First the difference that pairs with this spread find in four studies of five, then how many pairs do so for this
    difference; None where nothing is known of the spread. gaps: paired differences, indexed by seed.
    """
    gaps = gaps.dropna()
    over = spread(gaps.to_numpy(dtype=float), gaps.index)
    if over is None or over.sd <= 1e-12:
        return None, None
    return (
        power.minimum_detectable(over.mean_sd, over.independent, level=level),
        power.seeds_to_separate(difference, over.sd, level=level),
    )


def scores_by_seed(runs: pd.DataFrame, column: str = "test_score") -> pd.Series:
    """Return one column of the finished runs of a cell, indexed by seed."""
    done = runs[(runs.status == "finished") & runs[column].notna()]
    return done.set_index("seed")[column].sort_index()


def compare(a: pd.Series, b: pd.Series) -> dict[str, float | None]:
    """Return what paired scores say, by name; improvement: how probable it is that a run of a beats one of b."""
    found = paired_difference(a, b)
    return {
        "pairs": found.pairs, "difference": found.mean, "low": found.low, "high": found.high, "p": found.p,
        "improvement": float(probability_of_improvement([a.to_numpy()], [b.to_numpy()])),
    }  # fmt: skip
