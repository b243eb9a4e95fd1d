"""From scores to what they say: means with intervals over seeds, and paired differences."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from peftstudy.errors import StudyError
from peftstudy.files import whole
from peftstudy.study import Study

CELL = ["dataset", "split", "backbone", "method"]
MANY = 10
"""From so many seeds on, intervals are bootstrapped: Student's t needs normal scores, a bootstrap needs many."""

COSTS = [
    "learning_rate", "epochs", "train_examples", "test_examples", "method_parameters", "head_parameters",
    "backbone_parameters", "stored_bytes", "setup_seconds", "training_seconds", "evaluation_seconds",
    "examples_per_second", "peak_memory_bytes", "peak_device_memory_bytes",
]  # fmt: skip
MUST_AGREE: dict[str, list[str]] = {
    "device": [], "precision": [], "threads": [], "environment": [], "commit": [],
    "data_sha256": ["dataset", "backbone"], "backbone_sha256": ["backbone"],
}  # fmt: skip
"""Column -> among which runs it must be one: the tokens of a dataset, for instance, differ by backbone."""
NAMES = [*CELL, "reference"]


class Interval(NamedTuple):
    """A mean and the bounds of its interval; the bounds are None where one value says nothing of spread."""

    mean: float
    low: float | None
    high: float | None


class Difference(NamedTuple):
    """A mean paired difference, its interval, the p value of a paired t test, and the number of pairs."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    pairs: int


def interval(scores: Sequence[float] | np.ndarray, level: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean of some scores and its interval: Student's t for few, the BCa bootstrap for many.

    scores: shape (seeds,), finite. One score has no interval. `seed` fixes the bootstrap's draws.
    Raises ValueError when there are no scores, or one is not finite.
    Source: Efron and Tibshirani (1993), chapters 12 and 14.

    >>> [round(float(x), 3) for x in interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise ValueError("an interval needs one finite score or more")
    mean = float(scores.mean())
    if len(scores) == 1:
        return Interval(mean, None, None)
    if np.ptp(scores) == 0:
        return Interval(mean, mean, mean)
    low, high = stats.t.interval(level, len(scores) - 1, mean, stats.sem(scores))
    if len(scores) >= MANY:
        rng = np.random.default_rng(seed)
        low, high = stats.bootstrap(
            (scores,), np.mean, confidence_level=level, method="BCa", rng=rng
        ).confidence_interval
    return Interval(mean, float(low), float(high))


def paired_difference(a: pd.Series, b: pd.Series, level: float = 0.95) -> Difference:
    """Return mean(a - b), its interval and its p value, over the seeds that both have.

    a, b: scores, indexed by seed, without gaps. Where all differences are alike and not zero, there are
    no bounds and no p value: seeds that agree by chance are no evidence. Raises ValueError when no seed
    is shared.

    >>> paired_difference(pd.Series([0.7, 0.8], index=[0, 1]), pd.Series([0.5, 0.5], index=[1, 2])).pairs
    1
    """
    seeds = a.index.intersection(b.index).sort_values()
    if not len(seeds):
        raise ValueError("no seed is shared")
    differences = (a.loc[seeds] - b.loc[seeds]).to_numpy(dtype=float)
    # Accuracies are fractions: 0.7 - 0.6 and 0.8 - 0.7 differ in the last bit, and must not.
    differences = differences.round(12) + 0.0
    if len(seeds) == 1 or (np.ptp(differences) == 0 and differences[0] != 0):
        return Difference(float(differences[0]), None, None, None, len(seeds))
    p = float(stats.ttest_1samp(differences, 0.0).pvalue) if np.ptp(differences) > 0 else 1.0
    return Difference(*interval(differences, level), p, len(seeds))


def holm(p_values: Iterable[float]) -> np.ndarray:
    """Return p values adjusted for their number by Holm's step-down procedure; NaN stays and is not counted.

    Source: Holm (1979).

    >>> [round(float(p), 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(list(p_values), dtype=float)
    adjusted = np.full(len(p_values), np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each dataset, split, backbone and method: how its runs ended, score, interval, costs.

    Runs that failed or are missing are counted and leave the means; collapsed runs are counted and stay
    in them, for a collapse is what the method gave.
    """
    rows = []
    for cell, group in runs.groupby(CELL, sort=False):
        done = group[group.status == "finished"]
        row = dict(zip(CELL, cell, strict=True)) | {
            "metric": next(iter(group.metric.dropna()), None),
            "asked": len(group),
            **{state: int((group.status == state).sum()) for state in ("finished", "diverged", "failed", "missing")},
            "collapsed": int(done.collapsed.sum()),
        }
        if len(done):
            mean, low, high = interval(done.test_score)
            row |= {"test_score": mean, "low": low, "high": high}
            row |= {"sd": float(done.test_score.std(ddof=1)) if len(done) > 1 else None}
            row |= {column: done[column].mean() for column in ("validation_score", *COSTS)}
        rows.append(row)
    columns = [*CELL, "metric", "asked", "finished", "diverged", "failed", "missing", "collapsed"]
    return pd.DataFrame(rows, columns=[*columns, "test_score", "sd", "low", "high", "validation_score", *COSTS])


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
    random: the backbone with random weights -> the backbone that it is the twin of.
    """
    scores = {cell: scores_by_seed(group) for cell, group in runs.groupby(CELL, sort=False)}
    scores = {cell: values for cell, values in scores.items() if len(values)}
    leaders = {where: best(cells) for where, cells in summarise(runs).groupby(CELL[:3])}
    rows = []
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
        rows += [
            {**where, "kind": kind, "method": method, "reference": other, **compare(here[method], values)}
            for kind, method, other, values in pairs
            if values is not None and len(values.index.intersection(here[method].index))
        ]
    columns = ["dataset", "split", "backbone", "kind", "method", "reference"]
    frame = pd.DataFrame(rows, columns=[*columns, "pairs", "difference", "low", "high", "p"])
    families = frame.groupby(["dataset", "split", "backbone", "kind"], sort=False)["p"]
    frame["p_holm"] = families.transform(holm) if len(frame) else []
    return frame


def scores_by_seed(runs: pd.DataFrame, column: str = "test_score") -> pd.Series:
    """Return one column of the finished runs of a cell, indexed by seed."""
    done = runs[(runs.status == "finished") & runs[column].notna()]
    return done.set_index("seed")[column].sort_index()


def compare(a: pd.Series, b: pd.Series) -> dict[str, float | None]:
    found = paired_difference(a, b)
    return {"pairs": found.pairs, "difference": found.mean, "low": found.low, "high": found.high, "p": found.p}


def mixtures(runs: pd.DataFrame) -> dict[str, list[str]]:
    """Return what ought to be the same in finished runs and is not: column -> the values found."""
    done = runs[runs.status == "finished"]
    found = {}
    for column, among in MUST_AGREE.items():
        groups = done.groupby(among)[column] if among else [("", done[column])]
        kinds = [{str(value) for value in values.dropna()} for _, values in groups]
        mixed = sorted(set().union(*(values for values in kinds if len(values) > 1)))
        if mixed:
            found[column] = mixed
    return found


def read(path: Path) -> pd.DataFrame:
    """Return a CSV of the workflow: names stay text (one may be null, or 2024), gaps become NaN."""
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(NAMES, str))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; the stage before this one makes it.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not a whole CSV file ({error}); delete it to make it again.") from None
    for column in ("collapsed", "chosen", "dirty"):
        # In scores.csv `collapsed` is a count, and stays one.
        words = frame[column].astype(str).str.lower() if column in frame else pd.Series(["1"])
        if words.isin(["true", "false", "nan"]).all():
            frame[column] = words == "true"
    return frame


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    with whole(path) as temporary:
        frame.to_csv(temporary, index=False, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")


def write(metrics: Path, output: Path, study: Study) -> None:
    """Write scores.csv and differences.csv into `output`, from the runs in `metrics`."""
    runs = read(metrics / "runs.csv")
    protocols = sorted(runs[runs.status == "finished"].protocol.dropna().astype(int).unique().tolist())
    if len(protocols) > 1:
        raise StudyError(
            f"{metrics / 'runs.csv'}: records of protocols {', '.join(map(str, protocols))} are not comparable; "
            f"delete the runs of the older ones to make them again."
        )
    write_csv(output / "scores.csv", summarise(runs))
    write_csv(output / "differences.csv", differences(runs, study.reference, random_twins(study)))


def random_twins(study: Study) -> dict[str, str]:
    """Return the study's backbones with random weights -> the backbone whose shape each has."""
    return {name: backbone.random for name, backbone in study.backbones.items() if backbone.random}
