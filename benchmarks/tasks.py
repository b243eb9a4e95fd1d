"""Each task of finished studies against what needs no language model.

    python benchmarks/tasks.py results/tasks-local results/writing-local --methods full lora

From the studies' tables on test: means over seeds with their 95 % intervals. In bold where the whole interval lies
above every baseline of the dataset, in italics where it does not lie above the first of them, which is the trivial one.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd


def rows(results: Path, methods: Sequence[str]) -> Iterator[str]:
    """Yield a row of the table for each dataset, split and backbone of a study."""
    scores = pd.read_csv(results / "statistics/scores.csv")
    baselines = pd.read_csv(results / "metrics/baselines.csv")
    tasks = pd.read_csv(results / "metrics/runs.csv").groupby("dataset").task.first()
    for (dataset, split, backbone), own in scores.groupby(["dataset", "split", "backbone"], sort=False):
        found = baselines[(baselines.dataset == dataset) & (baselines.split == split)]
        without = dict(zip(found.baseline, found.test_score.fillna(0.0), strict=True))
        by_method = {row.method: row for row in own.itertuples()}
        cells = [_cell(by_method[method], list(without.values())) if method in by_method else "" for method in methods]
        named = "; ".join(f"{name} {score:.2f}" for name, score in without.items())
        seeds = int(own.finished.max())
        yield " | ".join(
            [f"{dataset}, {split}", tasks[dataset], backbone, own.metric.iloc[0], str(seeds), named, *cells]
        )


def _cell(row: object, baselines: Sequence[float]) -> str:
    said = f"{row.test_score:.3f} [{row.low:.3f}, {row.high:.3f}]"
    if row.low > max(baselines):
        return f"**{said}**"
    return said if row.low > baselines[0] else f"*{said}*"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+", help="folders of studies, such as results/tasks-local")
    parser.add_argument("--methods", nargs="+", default=["full", "lora"])
    options = parser.parse_args()
    head = ["dataset, split", "task", "backbone", "metric", "seeds", "baselines", *options.methods]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for folder in options.results:
        for row in rows(folder, options.methods):
            print(f"| {row} |")


if __name__ == "__main__":
    main()
