"""The tables of how many examples it takes: to overtake another method, and to come near full fine-tuning."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from peftstudy.evidence.efficiency import ENOUGH
from peftstudy.evidence.places import of
from peftstudy.report.captions import rule
from peftstudy.report.latex import NONE, absent, count, escape, floating, group, share, tabular
from peftstudy.report.views import measure
from peftstudy.study import Study


def table(tables: SimpleNamespace, study: Study) -> str:
    """Return how many examples each method needs, a group of rows for each dataset and backbone."""
    rows: list[list[str] | str] = []
    for (dataset, backbone), found in tables.efficiency.groupby(["dataset", "backbone"], sort=False):
        rows.append(group(escape(backbone if len(study.datasets) == 1 else f"{dataset}, {backbone}"), 5))
        for method in study.methods:
            own = of(found, method=method, reference=study.reference)
            cells = [cell(of(own, kind=kind)) for kind in ("overtakes", "reaches")]
            if cells != [[NONE, ""]] * 2:
                rows.append([escape(method), *cells[0], *cells[1]])
    reference = escape(study.reference)
    caption = (
        f"Examples that it takes. Beside {reference}: the number of training examples from which on the mean "
        f"{escape(measure(tables))} lies above, or below, that of {reference} with as many; {share(ENOUGH)} of it: "
        f"from which on it lies above {share(ENOUGH)} of what {reference} has with the most. Both are read off "
        "straight lines between the measured sizes, on a logarithmic scale; throughout: at all sizes where they "
        "differ. In brackets the sizes at which the paired "
        r"95\,\% $t$ interval holds zero \citep[after][]{fieller1954}: it may be any of them; "
        r"$\le$ and $\ge$ stand at the ends of the sweep. Seeds that lack a size are left out. "
        f"{rule(study)}"
    )
    if not rows:
        return floating("No backbone has finished runs with two sizes.", caption, "efficiency")
    header = [["method", f"beside {reference}", "may be level", f"{share(ENOUGH)} of it", "may be level"]]
    return floating(tabular("lllll", header, rows), caption, "efficiency")


def crossings(tables: SimpleNamespace, study: Study) -> str:
    """Return which method overtakes which other one, and where: the pairs that change places, the others counted."""
    rows: list[list[str] | str] = []
    for (dataset, backbone), found in of(tables.efficiency, kind="overtakes").groupby(
        ["dataset", "backbone"], sort=False
    ):
        turned = found[found.examples.notna()].sort_values("examples", kind="stable")
        level = found[found.examples.isna() & found.low.notna()]
        place = escape(backbone if len(study.datasets) == 1 else f"{dataset}, {backbone}")
        said = f"{count(len(turned))} of {count(len(found))} pairs change places"
        rows.append(group(f"{place}: {said}; {count(len(level))} do not, and may be level somewhere", 4))
        for row in turned.itertuples():
            above, below = (row.method, row.reference) if row.state == "rises" else (row.reference, row.method)
            rows.append([escape(above), escape(below), count(row.examples), where_level(row)])
    caption = (
        f"Who overtakes whom: the method whose mean {escape(measure(tables))} lies above that of the other from so "
        "many training examples on, with as many for both. Pairs of which one lies above the other at every size are "
        "counted, not listed. Lines, intervals and brackets as in the table of examples that it takes: straight lines "
        r"between the measured sizes, and the sizes at which the paired 95\,\% $t$ interval holds zero. "
        f"{rule(study)}"
    )
    if not rows:
        return floating("No backbone has finished runs with two sizes.", caption, "crossings")
    header = [["above from there", "below from there", "examples", "may be level"]]
    return floating(tabular("llrl", header, rows), caption, "crossings")


def cell(found: pd.DataFrame) -> list[str]:
    """Return what became of one method, and the sizes that it may have happened at."""
    if not len(found):
        return [NONE, ""]
    row = found.iloc[0]
    word = {"rises": "above", "falls": "below"}.get(row.state, row.state)
    said = f"{word} throughout" if absent(row.examples) else f"{word} from {count(row.examples)}"
    return [said, where_level(row)]


def where_level(row) -> str:
    """Return the sizes at which two methods may be level; nothing where they are not, or one seed tells no spread."""
    if absent(row.low):
        return ""
    low = rf"$\le${count(row.smallest)}" if np.isinf(row.low) else count(row.low)
    high = rf"$\ge${count(row.largest)}" if np.isinf(row.high) else count(row.high)
    return f"[{low}, {high}]"
