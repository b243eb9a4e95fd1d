"""Which runs stand behind a figure, a table, a cell of it or a number of the report."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from peftstudy import figures, tables
from peftstudy.errors import unknown
from peftstudy.evidence import overall, verdicts
from peftstudy.evidence.places import backbones, main_splits, on_splits, sized
from peftstudy.evidence.spread import draws
from peftstudy.evidence.summaries import CELL
from peftstudy.report import result_tables
from peftstudy.specs import several
from peftstudy.study import Study

Chosen = Callable[[pd.DataFrame, Study], pd.DataFrame]


def every(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    return runs


def shown(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The backbones that are shown: those with random weights are compared with, apart."""
    return runs[runs.backbone.isin(backbones(study))]


def on_first_split(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Each dataset's first one, on the backbones that are shown there."""
    found = [
        (runs.dataset == dataset) & (runs.split == split) & runs.backbone.isin(backbones(study, split, dataset))
        for dataset, split in ((name, study.first_split(name)) for name in study.datasets)
    ]
    return runs[pd.concat(found, axis=1).any(axis=1)]


def on_main_splits(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    return on_splits(shown(runs, study), study, main_splits)


def on_sizes(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    return on_splits(shown(runs, study), study, sized)


def trained_and_random(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The cells of backbones with random weights, and those of the same methods and splits on their originals."""
    pairs = {(name, b.random) for name, b in study.backbones.items() if b.random}
    asked = runs[runs.backbone.isin([name for name, _ in pairs])]
    cells = {(split, method) for split, method in zip(asked.split, asked.method, strict=True)}
    own = runs.backbone.isin([name for pair in pairs for name in pair])
    same = [(split, method) in cells for split, method in zip(runs.split, runs.method, strict=True)]
    return runs[own & pd.Series(same, index=runs.index, dtype=bool)]


def searched(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    rates = {name: method.learning_rate or study.training.learning_rate for name, method in study.methods.items()}
    return runs[runs.method.isin([name for name, value in rates.items() if several(value)])]


def troubled(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    return runs[(runs.status != "finished") | runs.collapsed]


def troubled_cells(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """All runs of the cells that lost some, which the means and rates are of."""
    cells = pd.MultiIndex.from_frame(troubled(runs, study)[CELL])
    return runs[pd.MultiIndex.from_frame(runs[CELL]).isin(cells)]


def on_shared_settings(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The settings on which every method finished a run."""
    own = pd.MultiIndex.from_frame(runs[overall.SETTING]).isin(overall.shared(runs, study))
    return runs[own & (runs.status == "finished")]


def signed(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    return result_tables.signed(runs)


def none(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """What stands in the configuration, or was found before any run."""
    return runs.head(0)


TABLES: dict[str, Chosen] = {
    "data": none, "tokens": none, "backbones": none, "settings": none, "methods": every, "searches": searched,
    "scores": shown, "differences": shown, "overall": on_shared_settings, "efficiency": on_sizes,
    "crossings": on_sizes, "power": shown,
    "spread": on_main_splits, "predictions": shown, "claims": every,
    "pretraining": trained_and_random, "costs": on_first_split, "seconds": on_first_split,
    "best-under": on_first_split, "failures": troubled,
    "losses": troubled_cells, "epochs": on_first_split, "checklist": every, "metrics": on_first_split,
    "signatures": signed,
    "replication-scores": shown, "replication-figures": on_first_split, "replication-parameters": shown,
}  # fmt: skip
FIGURES: dict[str, Chosen] = {
    "score-by-method": on_main_splits, "learning-curves": on_first_split, "performance-profile": on_shared_settings,
    "score-by-trained-parameters": on_first_split, "score-by-training-seconds": on_first_split,
    "score-by-training-examples": on_sizes, "pretraining-gain": trained_and_random, "ranks": on_first_split,
    "expected-score-by-trials": searched,
}  # fmt: skip
NUMBERS: dict[str, Chosen] = {
    "Answer": on_first_split, "Headline": on_first_split, "SamplingError": on_first_split,
    "PretrainingGain": trained_and_random, "SearchFairness": searched, "RanksOverDatasets": on_first_split,
    "NumberOfCollapsedRuns": troubled, "LostRuns": troubled_cells,
}  # fmt: skip
"""Numbers of the text that rest on some of the runs; the others rest on all."""

BESIDE_REFERENCE = ("differences", "power", "predictions", "efficiency", "overall")
BESIDE_DRAWS = ("spread",)
BESIDE_TWINS = ("pretraining", "pretraining-gain", "PretrainingGain")


def beside(kind: str, place: str, study: Study) -> tuple[str, ...]:
    """Return a place, and the one that a comparison of this kind sets it against: its results rest on both."""
    if kind in BESIDE_REFERENCE and place in study.methods and study.reference:
        return place, study.reference
    if kind in BESIDE_TWINS and place in study.backbones:
        return place, *(name for name, backbone in study.backbones.items() if backbone.random == place)
    if kind in BESIDE_DRAWS and place in study.datasets:
        return tuple(draws(study).get(place, [place]))
    return (place,)


def why(
    name: str, runs: pd.DataFrame, study: Study, numbers: Iterable[str], reported: Path
) -> tuple[str, pd.DataFrame]:
    """Return what a name stands for and its runs, in the study's order.

    name: a figure, a table, a number of the text, `claim-3`, or a dataset, split, backbone, method or seed-N;
    several, joined by slashes, narrow it down: scores/90-10/bert-tiny/lora; two of a kind, as two methods, count both.
    What a comparison is made with counts, too: differences/90-10/bert-tiny/lora names the reference's runs as well.
    numbers: the names in numbers.tex.
    Raises StudyError when there is no such thing.
    """
    kind, *places = name.split("/")
    chosen, said = _kind(kind, runs, study, list(numbers), reported)
    if chosen is None:
        chosen, said, places = runs, "runs", [kind, *places]
    wanted: dict[str, list[str]] = {}
    for place in places:
        wanted.setdefault(_column(place, study, name), []).extend(beside(kind, place, study))
    for column, values in wanted.items():
        found = "seed-" + chosen.seed.astype(str) if column == "seed" else chosen[column]
        chosen = chosen[found.isin(values)]
    return said, chosen


def _kind(
    kind: str, runs: pd.DataFrame, study: Study, numbers: list[str], reported: Path
) -> tuple[pd.DataFrame | None, str]:
    if kind in tables.kinds(study):
        return TABLES[kind](runs, study), f"table {kind}"
    if kind in figures.kinds(study):
        return FIGURES[kind](runs, study), f"figure {kind}"
    if kind in numbers:
        return NUMBERS.get(kind, every)(runs, study), f"number {kind}"
    if kind.startswith("claim-"):
        return _of_claim(kind, runs, study, reported)
    return None, ""


def _of_claim(kind: str, runs: pd.DataFrame, study: Study, reported: Path) -> tuple[pd.DataFrame, str]:
    listed = [*study.claims, *(claim for _, claim in verdicts.published(study, reported))]
    number = kind.removeprefix("claim-")
    if not number.isdigit() or not 1 <= int(number) <= len(listed):
        raise unknown("why", "claim", kind, [f"claim-{i + 1}" for i in range(len(listed))])
    claim = listed[int(number) - 1]
    own = pd.MultiIndex.from_frame(runs[CELL]).isin(list(verdicts.cells(claim, study)))
    return runs[own], f"claim: {claim.sentence}"


def _column(place: str, study: Study, name: str) -> str:
    names = {
        "dataset": study.datasets, "split": study.splits, "backbone": study.backbones, "method": study.methods,
        "seed": [f"seed-{seed}" for seed in study.seeds],
    }  # fmt: skip
    for column, known in names.items():
        if place in known:
            return column
    kinds = [*tables.kinds(study), *figures.kinds(study), *(place for known in names.values() for place in known)]
    raise unknown(f"why {name}", "figure, table, number or place", place, kinds)


def listing(said: str, chosen: pd.DataFrame, folder: str) -> str:
    """Return the runs as text: how many, from which commits, and the path of each with its end and score."""
    if not len(chosen):
        return f"{said}: no runs stand behind it; it is what the configuration or the data say.\n"
    done = chosen[chosen.status == "finished"]
    commits = ", ".join(sorted(done.commit.dropna().astype(str).str[:10].unique())) or "unknown"
    dirty = " (with changes that were not committed)" if done.dirty.any() else ""
    lines = [f"{said}: {len(chosen)} runs, {len(done)} of them finished, from commit {commits}{dirty}"]
    for row in chosen.itertuples():
        end = f"{row.metric} {row.test_score:.4f}" if row.status == "finished" else f"{row.status}: {row.reason}"
        lines.append(f"  {folder}/runs/{row.dataset}/{row.split}/{row.backbone}/{row.method}/seed-{row.seed}  {end}")
    return "\n".join(lines) + "\n"
