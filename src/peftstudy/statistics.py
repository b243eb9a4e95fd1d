"""From scores to what they say: means with intervals over seeds, and paired differences."""

import csv
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from peftstudy.errors import StudyError
from peftstudy.evidence import power
from peftstudy.evidence.aggregates import probability_of_improvement
from peftstudy.evidence.components import spread
from peftstudy.evidence.intervals import over_seeds, rate
from peftstudy.evidence.paired_tests import holm, holm_levels, paired_difference
from peftstudy.files import whole
from peftstudy.study import Study

STATISTICS = ("scores", "differences", "predictions", "overall", "ranks", "efficiency", "spread", "claims")
REPORTED = Path("paper/reported")
"""Where the figures and claims of publications lie that are replicated, a folder each."""
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
MUST_AGREE: dict[str, list[str]] = {
    "device": [], "precision": [], "threads": [], "environment": [], "commit": [],
    "data_sha256": ["dataset", "backbone"], "backbone_sha256": ["backbone"],
    "engine": ["dataset", "backbone", "method"], "signatures": ["dataset", "split"],
    "micro_batch_size": ["dataset", "backbone", "method"],
}  # fmt: skip
"""Column -> among which runs it must be one: the tokens of a dataset, for instance, differ by backbone."""
NAMES = [*CELL, "reference", "baseline", "origin"]


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each dataset, split, backbone and method: how its runs ended, score, interval, costs.

    Runs that failed or are missing are counted and leave the means; collapsed runs are counted and stay
    in them, for a collapse is what the method gave. sound_score and its bounds are without those, too.
    mixed: which of MUST_AGREE differ among its runs. lost_low, lost_high: the interval of the rate of runs
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
            "mixed": ", ".join(mixtures(group)) or None,
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


def mixtures(runs: pd.DataFrame) -> dict[str, list[str]]:
    """Return what ought to be the same in finished runs and is not: column -> the values found."""
    done = runs[runs.status == "finished"]
    found = {}
    for column, among in MUST_AGREE.items():
        if column not in done:  # metrics of before it existed, whose runs had none
            continue
        groups = done.groupby(among)[column] if among else [("", done[column])]
        kinds = [{_written(value) for value in values.dropna()} for _, values in groups]
        mixed = sorted(set().union(*(values for values in kinds if len(values) > 1)))
        if mixed:
            found[column] = mixed
    return found


def _written(value: float | str) -> str:
    """Return a value of the metrics as it was before missing ones in its column made a fraction of it.

    >>> _written(4.0), _written("cpu")
    ('4', 'cpu')
    """
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def described(mixed: Mapping[str, list[str]]) -> str:
    """Return mixtures in words, checksums and commits by their first digits; signatures, which are long, by name."""
    return "; ".join(
        column.replace("_", " ") + ("" if column == "signatures" else f" ({', '.join(value[:12] for value in values)})")
        for column, values in mixed.items()
    )


def refuse_mixtures(runs: pd.DataFrame, study: Study, where: str) -> None:
    """Raise a StudyError where the study is strict and its runs mix what ought to be the same."""
    mixed = mixtures(runs)
    if study.strict and mixed:
        raise StudyError(
            f"{where}: the runs mix {described(mixed)}, and the study is strict; make the odd ones again, "
            "or leave 'strict' out to have them marked."
        )


def read(path: Path) -> pd.DataFrame:
    """Return a CSV of the workflow: names stay text (one may be null, or 2024), gaps become NaN."""
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(NAMES, str))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; the stage before this one makes it.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not a whole CSV file ({error}); delete it to make it again.") from None
    if "seed" in frame and not pd.api.types.is_numeric_dtype(frame.seed):
        frame["seed"] = frame.seed.map(str)  # pandas reads a long file in parts, and a part may have plain seeds alone
    for column in ("collapsed", "chosen", "dirty"):
        # In scores.csv `collapsed` is a count, and stays one.
        words = frame[column].map(str).str.lower() if column in frame else pd.Series(["1"])
        if words.isin(["true", "false", "nan"]).all():
            frame[column] = words == "true"
    return frame


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    with whole(path) as temporary:
        frame.to_csv(temporary, index=False, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")


def write(metrics: Path, output: Path, study: Study, runs_folder: Path, reported: Path = REPORTED) -> None:
    """Write the tables of STATISTICS into `output`, from the runs in `metrics` and the predictions they left."""
    from peftstudy.evidence import efficiency, overall, predictions, spread, verdicts

    runs = read(metrics / "runs.csv")
    protocols = sorted(runs[runs.status == "finished"].protocol.dropna().astype(int).unique().tolist())
    if len(protocols) > 1:
        raise StudyError(
            f"{metrics / 'runs.csv'}: records of protocols {', '.join(map(str, protocols))} are not comparable; "
            f"delete the runs of the older ones to make them again."
        )
    refuse_mixtures(runs, study, str(metrics / "runs.csv"))
    tables = {
        "scores": summarise(runs),
        "differences": differences(runs, study.reference, random_twins(study)),
        "predictions": predictions.compare(runs, study, runs_folder),
        "overall": overall.overall(runs, study),
        "ranks": overall.ranked(runs, study),
        "efficiency": efficiency.efficiency(runs, study),
        "spread": spread.spread(runs, study),
        "claims": verdicts.check(study, runs, read(metrics / "epochs.csv"), reported),
    }
    for name, table in tables.items():
        write_csv(output / f"{name}.csv", table)


def random_twins(study: Study) -> dict[str, str]:
    """Return the study's backbones with random weights -> the backbone whose shape each has."""
    return {name: backbone.random for name, backbone in study.backbones.items() if backbone.random}
