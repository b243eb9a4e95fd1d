"""What becomes of claims: each statement has an interval over seeds, and that decides."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from peftstudy import strict_yaml
from peftstudy.configuration import claim_from_config
from peftstudy.evidence import power
from peftstudy.evidence.claims import Statement, Term, statements
from peftstudy.evidence.components import spread
from peftstudy.evidence.intervals import Interval
from peftstudy.evidence.measures import CERTAIN, Results
from peftstudy.evidence.paired_tests import paired_difference
from peftstudy.evidence.places import backbones, methods_on
from peftstudy.specs import Claim
from peftstudy.study import Study
from peftstudy.wording import listed

MINUS = "\N{MINUS SIGN}"
COLUMNS = ["origin", "sentence", "verdict", "seeds_needed", "evidence"]


class Finding(NamedTuple):
    """A statement in one place: what was found there, and the spread over seeds.

    absent: why there is no value. troubled: which of the runs collapsed or were lost, in brackets.
    """

    what: str
    statement: Statement
    value: Interval | None
    sd: float | None = None
    seeds: int = 0
    absent: str = "not measured"
    troubled: str = ""

    @property
    def verdict(self) -> str:
        """holds when the interval lies within the bounds, fails when it lies beyond one, else undecided."""
        if self.value is None or self.value.low is None:
            return "undecided"
        s, (_, low, high) = self.statement, self.value
        if (low > s.low or (s.low_within and low == s.low)) and (high < s.high or (s.high_within and high == s.high)):
            return "holds"
        below = high < s.low or (high == s.low and not s.low_within)
        above = low > s.high or (low == s.high and not s.high_within)
        return "fails" if below or above else "undecided"

    def seeds_needed(self, wanted: float) -> int | None:
        """Return how many seeds decide with such a power, if mean and spread are the true ones; None where too many.

        Within two bounds, both must be cleared: each may be missed half as often.
        """
        if self.value is None or self.sd is None:
            return None
        low, high = self.value.mean - self.statement.low, self.statement.high - self.value.mean
        both = 0 < low < np.inf and 0 < high < np.inf
        needed = power.seeds_to_separate(min(abs(low), abs(high)), self.sd, (1 + wanted) / 2 if both else wanted)
        return needed and max(needed, self.seeds + 1)  # those that there are did not

    @property
    def room(self) -> float:
        """How far the interval stays within the bounds; negative where it does not."""
        return min(self.value.low - self.statement.low, self.statement.high - self.value.high)

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.what}: {self.absent}"
        mean, low, high = self.value
        interval = " (no interval)" if low is None else f" [{_short(low)}, {_short(high)}]" if low < high else ""
        return f"{self.what}: {_short(mean)}{interval}{self.troubled}"


def _short(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
    return (text.lstrip("-") if not text.strip("-0.") else text).replace("-", MINUS)


def check(study: Study, runs: pd.DataFrame, epochs: pd.DataFrame, reported: Path) -> pd.DataFrame:
    """Return sentence, verdict (holds, fails, undecided) and evidence of each claim, the study's own first.

    origin: the study, or the publication that it replicates, whose claims lie in a folder of `reported`.
    seeds_needed: how many would decide a claim that is open, all its open statements together; empty where not even a
    thousand would.
    """
    results = Results(runs, epochs)
    rows = []
    for origin, claim in [*((study.name, claim) for claim in study.claims), *published(study, reported)]:
        findings = list(found(claim, results, study))
        said = verdict(findings)
        open_ones = [finding for finding in findings if finding.verdict == "undecided"]
        # The misses of several add up at worst, so each may have its share of them.
        wanted = 1 - (1 - power.POWER) / max(len(open_ones), 1)
        seeds = [finding.seeds_needed(wanted) for finding in open_ones]
        needed = max(seeds) if said == "undecided" and seeds and None not in seeds else None
        rows.append((origin, claim.sentence, said, needed, evidence(findings)))
    return pd.DataFrame(rows, columns=COLUMNS)


def published(study: Study, reported: Path) -> Iterator[tuple[str, Claim]]:
    """Yield the claims of the publication that a study replicates; those of paper/reported/NAME/claims.yaml."""
    path = reported / str(study.replicates) / "claims.yaml"
    if study.replicates is None or not path.is_file():
        return
    block = strict_yaml.load(path)
    common = {key: value for key, value in block.items() if key != "claims"}
    for claim in block["claims"]:
        yield study.replicates, claim_from_config(common | claim)


def found(claim: Claim, results: Results, study: Study) -> Iterator[Finding]:
    """Yield a finding for each statement and place that a claim is about."""
    for statement in statements(claim, claim.sentence):
        open_places = places(claim, statement, study)
        for place in open_places:
            yield finding(statement, results, place, open_places)


def places(claim: Claim, statement: Statement, study: Study) -> list[tuple[str, str, str]]:
    """Return the datasets, splits and backbones that a statement is made for; none of what its terms all name.

    A claim that names no datasets, or no backbones, is about those that all its methods are run on.
    """
    terms = [term for _, term in statement.terms]
    methods = {term.method for term in terms}
    datasets = [name for name in study.datasets if methods <= set(methods_on(study, name))]
    return [
        (dataset, split, backbone)
        for dataset in claim.datasets or datasets
        for split in _splits(claim, statement, study, dataset)
        for backbone in (
            (claim.backbones or _with_all(terms, study, dataset, split))
            if any(term.backbone is None for term in terms)
            else [""]
        )
    ]


def _with_all(terms: list[Term], study: Study, dataset: str, split: str) -> list[str]:
    """Return the backbones that the methods of all terms which name no backbone are run on."""
    asked = [(term.split or split, term.method) for term in terms if term.backbone is None]
    return [
        name
        for name in backbones(study, split, dataset)
        if all(study.runs_on(dataset, there, name, method) for there, method in asked)
    ]


def _splits(claim: Claim, statement: Statement, study: Study, dataset: str) -> Sequence[str]:
    """Return the splits of a dataset that a statement is made for; those that all its terms name make it one."""
    splits = claim.splits or [study.first_split(dataset)]
    return splits if any(term.split is None for _, term in statement.terms) else splits[:1]


def cells(claim: Claim, study: Study) -> Iterator[tuple[str, str, str, str]]:
    """Yield dataset, split, backbone and method of everything that a claim looks at."""
    for statement in statements(claim, claim.sentence):
        for dataset, split, backbone in places(claim, statement, study):
            for _, term in statement.terms:
                yield dataset, term.split or split, term.backbone or backbone, term.method


def finding(statement: Statement, results: Results, place: tuple[str, str, str], places: list) -> Finding:
    values = sum(factor * results.of(term, *place) for factor, term in statement.terms).dropna()
    differ = [name for i, name in enumerate(place) if name and (i == 2 or len({other[i] for other in places}) > 1)]
    what = _words(statement) + (f" ({', '.join(differ)})" if differ else "")
    missing = {term: results.lost(term, *place) for _, term in statement.terms}
    if not len(values):
        return Finding(what, statement, None, absent="not measured" + _troubled({"came to nothing": missing}))
    lost = {term: results.collapsed(term, *place) for _, term in statement.terms}
    if _is_empty(statement, lost):
        names = listed([_named(term) for term, (some, every) in lost.items() if 0 < some == every])
        said = f"nothing was learned there: every run of {names} gave all examples one answer"
        return Finding(what, statement, None, absent=said)
    troubled = _troubled({"collapsed": lost, "came to nothing": missing})
    mean, low, high, _, _ = paired_difference(values, values * 0)
    certain = all(term.measure in CERTAIN for _, term in statement.terms)
    if certain and len(values) > 1 and values.nunique() == 1:
        low = high = mean
    gaps = spread(values.to_numpy(dtype=float), values.index) if values.nunique() > 1 else None
    found = Finding(what, statement, Interval(mean, low, high), troubled=troubled)
    return found if gaps is None else found._replace(sd=gaps.sd, seeds=gaps.independent)


def _troubled(ends: dict[str, dict[Term, tuple[int, int]]]) -> str:
    """Return in brackets how many of the runs behind each term ended how; nothing where none did."""
    said = []
    for how, runs in ends.items():
        counts = [f"{some} of {every} runs of {_named(term)}" for term, (some, every) in runs.items() if some]
        said += [f"{listed(counts)} {how}"] if counts else []
    return f" ({'; '.join(said)})" if said else ""


def _is_empty(statement: Statement, lost: dict[Term, tuple[int, int]]) -> bool:
    """Return whether nothing was learned in all that a statement is about, or on both sides of it.

    lost: how many runs of each term collapsed, and of how many. What collapsed on one side alone is a finding.
    """
    empty = [factor > 0 for factor, term in statement.terms if 0 < lost[term][0] == lost[term][1]]
    return len(empty) == len(statement.terms) or len(set(empty)) == 2


def _named(term: Term) -> str:
    name = f"{term.backbone} {term.method}" if term.backbone else term.method
    return name + (f" at {term.split}" if term.split else "")


def _words(statement: Statement) -> str:
    """Return the sum that a statement bounds, and its bounds where they are not zero."""
    measures = {term.measure.replace("_", " ") for _, term in statement.terms}
    text = ""
    for factor, term in statement.terms:
        name = f"{term.measure.replace('_', ' ')} of {_named(term)}" if len(measures) > 1 else _named(term)
        sign = (" + " if factor > 0 else f" {MINUS} ") if text else ("" if factor > 0 else MINUS)
        text += sign + ("" if abs(factor) == 1 else f"{abs(factor):g} × ") + name
    text = text if len(measures) > 1 or measures == {"score"} else f"{measures.pop()}, {text}"
    low, high = statement.low, statement.high
    if np.isfinite(low) and np.isfinite(high):
        return f"{text}, between {_number(low)} and {_number(high)}"
    bound, word = (low, "above") if np.isfinite(low) else (high, "below")
    return f"{text}, {word} {_number(bound)}" if bound or word == "below" else text


def _number(value: float) -> str:
    return f"{value:g}".replace("-", MINUS)


def verdict(findings: Iterable[Finding]) -> str:
    """Return what findings say together: one that fails is enough to fail, all must hold to hold."""
    verdicts = {finding.verdict for finding in findings}
    return "fails" if "fails" in verdicts else "holds" if verdicts == {"holds"} else "undecided"


def evidence(findings: list[Finding], most: int = 3) -> str:
    """Return the findings that decide, with their numbers: those that fail, else the open ones, else the nearest."""
    if not findings:
        return "not run in any of its places"
    worst = next(kind for kind in ("fails", "undecided", "holds") if any(f.verdict == kind for f in findings))
    shown = [finding for finding in findings if finding.verdict == worst]
    counts = f"{len(shown)} of {len(findings)}; " if len(findings) > most else ""
    if worst == "holds":
        shown.sort(key=lambda finding: finding.room)
        counts = f"all of {len(findings)}, nearest; " if len(findings) > most else ""
    return counts + "; ".join(map(str, shown[:most]))
