"""The stored predictions of two methods on the same test examples, and what they say about the two."""

from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import parquet

from peftstudy import tasks
from peftstudy.errors import StudyError
from peftstudy.evidence.paired_tests import holm, mcnemar, paired_permutation
from peftstudy.study import Study

COLUMNS = [
    "dataset", "split", "backbone", "method", "reference", "seeds", "examples", "only_method", "only_reference",
    "mcnemar_median", "mcnemar_found", "p", "p_holm",
]  # fmt: skip
FOUND = 0.05


def compare(runs: pd.DataFrame, study: Study, folder: Path) -> pd.DataFrame:
    """Return each method beside the reference, example by example; no rows where there is no reference.

    runs: the study's runs; folder: where each left its predictions, by its path. only_method, only_reference:
    answers that one alone had right, a seed on average. mcnemar_median, mcnemar_found: the median over
    seeds of McNemar's exact p value, and how many seeds have one below 0.05. p: the exact permutation test
    of the answers summed over seeds, for these seeds and any test examples; p_holm: adjusted within a split
    and backbone. Tasks whose own metric is no mean over examples have no rows, graded answers no McNemar;
    where a dataset names another metric, this is still about right answers.
    """
    finished = runs[runs.status == "finished"]
    rows = []
    for (dataset, split, backbone), cells in finished.groupby(["dataset", "split", "backbone"], sort=False):
        task = tasks.create(study.datasets[dataset].task)
        found = {
            method: {seed: _quality(task, folder, (dataset, split, backbone, method), seed) for seed in group.seed}
            for method, group in cells.groupby("method", sort=False)
        }
        reference = found.get(study.reference, {})
        if any(answers is None for answers in reference.values()):
            continue
        for method, answers in found.items():
            seeds = sorted(answers.keys() & reference.keys())
            if method != study.reference and seeds:
                names = dict(zip(COLUMNS, (dataset, split, backbone, method, study.reference), strict=False))
                rows.append(names | _tests([answers[s] for s in seeds], [reference[s] for s in seeds]))
    frame = pd.DataFrame(rows, columns=COLUMNS)
    families = frame.groupby(["dataset", "split", "backbone"], sort=False)["p"]
    frame["p_holm"] = families.transform(holm) if len(frame) else []
    return frame


def _quality(task: tasks.Task, folder: Path, cell: tuple[str, ...], seed: int) -> np.ndarray | None:
    path = folder.joinpath(*cell, f"seed-{seed}", "predictions.parquet")
    if not path.is_file():
        raise StudyError(f"{path}: no such file, and the comparison of answers needs it; run the evaluation again.")
    # A row's logits are many and decide nothing here.
    columns = [name for name in parquet.read_schema(path).names if name != "logits"]
    return task.quality(pd.read_parquet(path, columns=columns))


def _tests(a: list[np.ndarray], b: list[np.ndarray]) -> dict[str, float | None]:
    """Return the columns of a row from the answers of two methods, an array a seed each."""
    pairs = list(zip(a, b, strict=True))
    found: dict[str, float | None] = {"seeds": len(pairs), "examples": len(a[0])}
    if all(np.isin(answers, (0, 1)).all() for answers in (*a, *b)):
        counts = [(int((x > y).sum()), int((y > x).sum())) for x, y in pairs]
        p = np.array([mcnemar(*count) for count in counts])
        found["only_method"], found["only_reference"] = np.mean(counts, axis=0)
        found |= {"mcnemar_median": float(np.median(p)), "mcnemar_found": int((p < FOUND).sum())}
    return found | {"p": paired_permutation(sum(x - y for x, y in pairs))}
