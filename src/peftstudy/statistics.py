"""From the metrics of runs to the tables of what they say; see peftstudy.evidence."""

import csv
from pathlib import Path

import pandas as pd

from peftstudy.errors import StudyError
from peftstudy.evidence import efficiency, mixtures, overall, predictions, spread, summaries, verdicts
from peftstudy.files import whole
from peftstudy.study import Study

STATISTICS = ("scores", "differences", "predictions", "overall", "ranks", "efficiency", "spread", "claims")
REPORTED = Path("paper/reported")
"""Where the figures and claims of publications lie that are replicated, a folder each."""
NAMES = [*summaries.CELL, "reference", "baseline", "origin"]


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

    runs = read(metrics / "runs.csv")
    protocols = sorted(runs[runs.status == "finished"].protocol.dropna().astype(int).unique().tolist())
    if len(protocols) > 1:
        raise StudyError(
            f"{metrics / 'runs.csv'}: records of protocols {', '.join(map(str, protocols))} are not comparable; "
            f"delete the runs of the older ones to make them again."
        )
    mixtures.refuse(runs, study, str(metrics / "runs.csv"))
    tables = {
        "scores": summaries.summarise(runs),
        "differences": summaries.differences(runs, study.reference, random_twins(study)),
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
