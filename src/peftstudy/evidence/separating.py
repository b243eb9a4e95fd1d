"""What it takes to tell two methods apart: a sentence for each dataset, split and backbone, from the runs there are."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from peftstudy import metrics, seeds
from peftstudy.errors import StudyError, unknown
from peftstudy.evidence import power
from peftstudy.evidence.components import is_crossed, spread
from peftstudy.evidence.paired_tests import Difference, paired_difference
from peftstudy.evidence.summaries import scores_by_seed
from peftstudy.study import Study

FEWEST = 2
"""A spread needs two seeds."""

LISTED = 40
"""Up to so many seeds, they are written out for the configuration."""


class Pair(NamedTuple):
    """Two methods in one place: their difference over shared seeds, its spread, and how many seeds it takes.

    seeds_needed: None where even power.MOST_SEEDS are too few. found: None where no seed is shared. is_crossed: whether
    the runs have two seeds, of which others have one too; the seeds needed are plain ones.
    """

    place: str
    found: Difference | None
    sd: float | None
    seeds_needed: int | None
    is_crossed: bool = False

    @property
    def is_apart(self) -> bool:
        return self.found is not None and self.found.p is not None and self.found.p < 0.05


def pairs(study: Study, results: Path, a: str, b: str) -> list[Pair]:
    """Return what the finished runs under `results` say of a - b, for each place where the study asks for both.

    Raises StudyError for a method that the study has not, and where no place has FEWEST seeds of both.
    """
    where = f"plan --separate {a} {b}"
    for method in (a, b):
        if method not in study.methods:
            raise unknown(where, "method", method, study.methods)
    if a == b:
        raise StudyError(f"{where}: one method twice; name two of {', '.join(study.methods)}.")
    found = list(_pairs(study, results, a, b))
    if not found:
        raise StudyError(f"{where}: no backbone of the study is run with both; see backbones.*.methods.")
    most = max(pair.found.pairs if pair.found else 0 for pair in found)
    if most < FEWEST:
        raise StudyError(
            f"{where}: found {most} {'seed' if most == 1 else 'seeds'} that both finished, in {results}; the spread of "
            f"a difference needs {FEWEST} or more. Run the study first, with {FEWEST} seeds or more."
        )
    return found


def _pairs(study: Study, results: Path, a: str, b: str) -> Iterator[Pair]:
    for dataset, split, backbone, methods in study.cells():
        chosen = {method.name: method for method in methods}
        if a in chosen and b in chosen:
            one, other = (
                _scores([study.run(dataset, split, backbone, chosen[name], seed) for seed in study.seeds], results)
                for name in (a, b)
            )
            yield pair(f"{dataset.name}, {split}, {backbone.name}", one, other)


def _scores(runs: Sequence, results: Path) -> pd.Series:
    rows = [metrics.run_row(run, results / "runs" / run.path) for run in runs]
    frame = pd.DataFrame(rows, columns=metrics.COLUMNS["runs"])
    return scores_by_seed(frame.assign(seed=seeds.labels(frame.seed)))


def pair(place: str, a: pd.Series, b: pd.Series) -> Pair:
    """Return what two series of scores, indexed by seed, say of their difference."""
    shared = a.index.intersection(b.index)
    if not len(shared):
        return Pair(place, None, None, None)
    found = paired_difference(a, b)
    gaps, crossed = spread((a - b).loc[shared].to_numpy(), shared), is_crossed(shared)
    if gaps is None or gaps.sd < 1e-12:
        return Pair(place, found, None, None, crossed)
    needed = power.seeds_to_separate(found.mean, gaps.sd)
    # Those that there are did not.
    return Pair(
        place, found, gaps.sd, needed and (needed if found.p < 0.05 else max(needed, gaps.independent + 1)), crossed
    )


def report(pairs: list[Pair], study: Study, a: str, b: str) -> str:
    """Return a sentence for each pair, and the seeds that would tell all of them apart, as the config has them."""
    lines = [
        f"{a} minus {b}, paired by seed; seeds needed are for a power of {power.POWER:.0%} "
        "(paired t test, two-sided, 0.05, not adjusted for other comparisons), if difference and spread are the true "
        "ones."
    ]
    lines += [f"  {pair.place}: {sentence(pair)}" for pair in pairs]
    open_ones = [pair for pair in pairs if not pair.is_apart]
    needed = [pair.seeds_needed for pair in open_ones if pair.sd is not None]
    unknown, them = len(open_ones) - len(needed), "all"
    if unknown:
        lines.append(f"In {unknown} of {len(pairs)} places nothing is known of the spread, so no number is either.")
        them = "the others"
    if not open_ones:
        lines.append("All are told apart by the seeds that there are.")
    elif None in needed:
        lines.append(f"No number of seeds within reason tells {them} apart.")
    elif needed and max(needed) > LISTED:
        lines.append(f"To tell {them} apart: {max(needed)} seeds.")
    elif needed:
        plain = [seed for seed in study.seeds if isinstance(seed, int)]
        lines.append(f"To tell {them} apart: seeds: [{', '.join(map(str, more_seeds(plain, max(needed))))}]")
    return "\n".join(lines)


def sentence(pair: Pair) -> str:
    found = pair.found
    if found is None:
        return "no seed was finished by both."
    if found.pairs < FEWEST:
        return f"{found.mean:+.4f} with 1 seed; the spread needs {FEWEST} or more."
    said = f"{found.mean:+.4f}" + ("" if found.low is None else f" [{found.low:+.4f}, {found.high:+.4f}]")
    said += f" over {found.pairs} {'pairs of ' * pair.is_crossed}seeds"
    if pair.sd is None:
        return f"{said}, the same with each, so that nothing is known of the spread."
    if pair.is_apart:
        return f"{said}: told apart."
    if pair.seeds_needed is None:
        return f"{said}: not told apart, and {power.MOST_SEEDS:,} seeds would not do it either."
    if pair.is_crossed:
        return f"{said}: not told apart; {pair.seeds_needed} seeds that share nothing would mostly do it."
    more = pair.seeds_needed - found.pairs
    return f"{said}: not told apart; {pair.seeds_needed} seeds would mostly do it, {more} more."


def more_seeds(seeds: Sequence[int], count: int) -> list[int]:
    """Return the study's seeds and the smallest new ones, so many in all.

    >>> more_seeds([0, 7], 4)
    [0, 7, 1, 2]
    """
    new = (seed for seed in range(count) if seed not in seeds)
    return [*seeds, *(next(new) for _ in range(count - len(seeds)))]
