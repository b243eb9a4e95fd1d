"""Which runs stand behind what the page shows, as links: the same runs as `peftstudy why` names."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from peftstudy.evidence.summaries import CELL
from peftstudy.report import why
from peftstudy.study import Study


class Link(NamedTuple):
    """A link from a number to its runs.

    why: what `peftstudy why` is asked. href: the row of its run or of its cell, where it has one, else the table of
    runs. runs: their places in that table, 0-2,7 for the first three and the eighth. number: how many they are.
    """

    why: str
    href: str
    runs: str
    number: int


class Links:
    """Makes links for one study.

    runs: metrics/runs.csv; the page lists them as `ordered` does. reported: the folder of published claims.
    """

    def __init__(self, runs: pd.DataFrame, study: Study, reported: Path):
        self.runs, self.study, self.reported = ordered(runs, study), study, reported
        self.cells = list(map("/".join, self.runs[CELL].itertuples(index=False)))
        self._behind: dict[str, frozenset[int]] = {}
        self._at: dict[str, set[int]] = {}
        # Backwards: a name that is, say, a dataset's and a method's means the dataset.
        self._column: dict[str, str] = {}
        for column in reversed(CELL):
            self._at |= {name: set(found) for name, found in self.runs.groupby(column).groups.items()}
            self._column |= dict.fromkeys(self.runs[column], column)
        self._at |= {f"seed-{seed}": set(found) for seed, found in self.runs.groupby("seed").groups.items()}

    def to(self, kind: str, *places: str) -> Link | None:
        """Return the link of a table, a figure or a number (kind), narrowed down by places; None where no run is.

        An empty kind means all runs.
        """
        if kind not in self._behind:
            self._behind[kind] = frozenset(self._chosen(kind).index)
        found, wanted = set(self._behind[kind]), {}
        for place in places:
            at = set().union(*(self._at.get(one, set()) for one in why.beside(kind, place, self.study)))
            wanted[self._column.get(place)] = wanted.get(self._column.get(place), set()) | at
        for at in wanted.values():
            found &= at
        return self.of(found, "/".join([kind, *places] if kind else places)) if found else None

    def _chosen(self, kind: str) -> pd.DataFrame:
        if kind.startswith("claim-"):
            return why.why(kind, self.runs, self.study, [], self.reported)[1]
        return (why.TABLES | why.FIGURES | why.NUMBERS).get(kind, why.every)(self.runs, self.study)

    def of(self, numbers: Iterable[int], name: str) -> Link:
        """Return the link to some runs, by their places in the table."""
        numbers = sorted(numbers)
        cells = {self.cells[number] for number in numbers}
        href = cells.pop() if len(cells) == 1 else "runs"
        seed = f"/seed-{self.runs.seed[numbers[0]]}" if len(numbers) == 1 else ""
        return Link(name, href + seed, ranges(numbers), len(numbers))


def ordered(rows: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return rows by dataset and split as the study names them, backbones with random weights behind the others."""
    datasets, splits = list(study.datasets), list(study.splits)
    keys = [
        (datasets.index(row.dataset), splits.index(row.split), bool(study.backbones[row.backbone].random))
        for row in rows.itertuples()
    ]
    return rows.iloc[sorted(range(len(rows)), key=keys.__getitem__)].reset_index(drop=True)


def ranges(numbers: Iterable[int]) -> str:
    """Return sorted whole numbers, written short.

    >>> ranges([0, 1, 2, 7, 9, 10])
    '0-2,7,9-10'
    """
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in spans)
