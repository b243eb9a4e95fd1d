"""What runs that are compared ought to share: the machine, the code, the data."""

from collections.abc import Mapping

import pandas as pd

from peftstudy.errors import StudyError
from peftstudy.study import Study

MUST_AGREE: dict[str, list[str]] = {
    "device": [], "precision": [], "threads": [], "environment": [], "commit": [],
    "data_sha256": ["dataset", "backbone"], "backbone_sha256": ["backbone"],
    "engine": ["dataset", "backbone", "method"], "signatures": ["dataset", "split"],
    "micro_batch_size": ["dataset", "backbone", "method"],
}  # fmt: skip
"""Column -> among which runs it must be one: the tokens of a dataset, for instance, differ by backbone."""


def of(runs: pd.DataFrame) -> dict[str, list[str]]:
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


def in_words(mixed: Mapping[str, list[str]]) -> str:
    """Return mixtures in words, checksums and commits by their first digits; signatures, which are long, by name."""
    return "; ".join(
        column.replace("_", " ") + ("" if column == "signatures" else f" ({', '.join(value[:12] for value in values)})")
        for column, values in mixed.items()
    )


def refuse(runs: pd.DataFrame, study: Study, where: str) -> None:
    """Raise a StudyError where the study is strict and its runs mix what ought to be the same."""
    mixed = of(runs)
    if study.strict and mixed:
        raise StudyError(
            f"{where}: the runs mix {in_words(mixed)}, and the study is strict; make the odd ones again, "
            "or leave 'strict' out to have them marked."
        )
