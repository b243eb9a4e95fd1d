"""What the intervals and tests of the report promise, and what they do where the truth is known.

    python benchmarks/coverage.py --draws 2000

Each row simulates studies: scores over seeds that are normal, skewed (a lognormal loss below a ceiling),
or mostly good with a rare collapse; rates of collapse; answers to the same test examples of two methods that are
equally good. An interval should hold the true value as often as it says, a test should find a difference
that is not there in 5 % of studies, or fewer.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from peftstudy import seeds as pairs
from peftstudy.evidence import aggregates, components, efficiency, paired_tests, ranks
from peftstudy.evidence.intervals import MANY, interval, over_seeds, rate
from peftstudy.evidence.paired_tests import holm

SHAPES: dict[str, tuple[Callable, float]] = {
    "normal": (lambda rng, n: rng.normal(0.8, 0.02, n), 0.8),
    "skewed": (lambda rng, n: 0.9 - rng.lognormal(-3, 0.8, n), 0.9 - float(np.exp(-3 + 0.8**2 / 2))),
    "collapsing": (
        lambda rng, n: np.where(rng.random(n) < 0.1, 0.5, rng.normal(0.8, 0.02, n)), 0.1 * 0.5 + 0.9 * 0.8,
    ),
}  # fmt: skip
"""How scores are drawn, and their true mean."""


def intervals(rng: np.random.Generator, draws: int) -> Iterator[tuple[str, str, float, float]]:
    """Yield interval, setting, promise and the share of intervals that hold the true value."""
    for shape, (draw, truth) in SHAPES.items():
        for seeds in (3, 5, 10, 20, 30):
            name = f"mean over seeds, {'BCa' if seeds >= MANY else 't'}"
            held = [holds(interval(draw(rng, seeds)), truth) for _ in range(draws)]
            yield name, f"{shape}, {seeds} seeds", 0.95, float(np.mean(held))
    for true in (0.02, 0.2):
        for of in (3, 10, 60):
            found = [rate(int(count), of) for count in rng.binomial(of, true, draws)]
            yield (
                "rate, Clopper-Pearson",
                f"{true:g} of {of} runs",
                0.95,
                float(np.mean([holds(f, true) for f in found])),
            )
    for settings in (4, 12):
        held = [
            holds(aggregates.with_interval(aggregates.probability_of_improvement, *pair(rng, settings), seed=i), 0.5)
            for i in range(max(draws // 6, 20))
        ]
        yield "probability of improvement", f"{settings} settings, 5 seeds", 0.95, float(np.mean(held))
        held = [
            holds(
                aggregates.with_interval(aggregates.probability_of_improvement, *pair(rng, settings, 0.02), seed=i),
                float(stats.norm.cdf(1 / 2**0.5)),
            )
            for i in range(max(draws // 6, 20))
        ]
        yield "probability of improvement", f"{settings} settings, 5 seeds, better", 0.95, float(np.mean(held))
    for settings, seeds in product((2, 4, 12), (3, 5)):
        held = [
            holds(aggregates.with_interval(aggregates.interquartile_mean, alike(rng, settings, seeds), seed=i), 0.5)
            for i in range(max(draws // 6, 20))
        ]
        yield "interquartile mean", f"{settings} settings, {seeds} seeds", 0.95, float(np.mean(held))
    grid = np.arange(9).reshape(3, 3)
    held = [
        holds(aggregates.with_interval(aggregates.interquartile_mean, on_grids(rng, 4), grid=grid, seed=i), 0.0)
        for i in range(max(draws // 6, 20))
    ]
    yield "interquartile mean, pigeonhole", "4 settings, 3 by 3 seeds", 0.95, float(np.mean(held))


def tests(rng: np.random.Generator, draws: int) -> Iterator[tuple[str, str, float, float]]:
    """Yield test, setting, promise and the share of studies in which it finds what is not there."""
    for seeds in (3, 5, 10):
        p = stats.ttest_1samp(rng.normal(0, 0.02, (draws, seeds)), 0, axis=1).pvalue
        yield "paired t", f"{seeds} seeds", 0.05, float(np.mean(p < 0.05))
    p = stats.ttest_1samp(rng.normal(0, 0.02, (draws, 7, 3)), 0, axis=2).pvalue
    yield "paired t, Holm, any of 7", "3 seeds", 0.05, float(np.mean([(holm(row) < 0.05).any() for row in p]))
    for methods, seeds in product((3, 8, 14), (3, 10)):
        wrong = np.mean([beats_others(rng.normal(0, 0.02, (methods, seeds))) for _ in range(draws)])
        yield "paired t, Holm, the best against the rest", f"{methods} methods, {seeds} seeds", 0.05, float(wrong)
    for examples in (300, 2500):
        both = [answers(rng, examples) for _ in range(draws)]
        p = [paired_tests.mcnemar(int((a > b).sum()), int((b > a).sum())) for a, b in both]
        yield "McNemar, exact", f"{examples} examples", 0.05, float(np.mean(np.array(p) < 0.05))
        over_seeds = (sum(np.subtract(*answers(rng, examples)) for _ in range(3)) for _ in range(draws))
        p = [paired_tests.paired_permutation(differences) for differences in over_seeds]
        yield "permutation, exact", f"{examples} examples, 3 seeds", 0.05, float(np.mean(np.array(p) < 0.05))
    for datasets in (5, 15):
        scores = rng.normal(size=(draws, datasets, 6))
        yield (
            "Friedman",
            f"6 methods, {datasets} datasets",
            0.05,
            float(np.mean([ranks.friedman(table) < 0.05 for table in scores])),
        )
        span = ranks.critical_difference(6, datasets)
        mean = stats.rankdata(scores, axis=2).mean(axis=1)
        yield (
            "Nemenyi, any of 15",
            f"6 methods, {datasets} datasets",
            0.05,
            float(np.mean(np.ptp(mean, axis=1) >= span)),
        )


def crossings(rng: np.random.Generator, draws: int) -> Iterator[tuple[str, str, float, float]]:
    """Yield the same for the size at which one method overtakes another, 200, of a sweep over three."""
    sizes = np.array([100.0, 300.0, 1000.0])
    for seeds in (3, 5, 10):
        gaps = np.log(sizes / 200) * 0.02 + rng.normal(0, 0.02, (draws, seeds, len(sizes)))
        found = [efficiency.crossing(sizes, values) for values in gaps]
        held = [f.low is not None and f.low <= 200 <= f.high for f in found]
        yield "size at which methods cross, t inverted", f"normal, {seeds} seeds", 0.95, float(np.mean(held))


def crossed(rng: np.random.Generator, draws: int) -> Iterator[tuple[str, str, float, float]]:
    """Yield the same for runs of crossed seeds: their mean, the variances over initialisations and of the rest."""
    spreads = {"initialisations spread": (0.02, 0.0), "both spread": (0.02, 0.02)}
    for (first, then), (spread, (of_first, of_then)) in product(((3, 3), (3, 5), (5, 5)), spreads.items()):
        labels = list(map(str, pairs.of({"initialization": range(first), "order": range(then)})))
        held = []
        for _ in range(draws):
            scores = rng.normal(0, of_first, (first, 1)) + rng.normal(0, of_then, then)
            scores = scores + rng.normal(0, 0.01, (first, then))
            mean = over_seeds(pd.Series(0.8 + scores.ravel(), labels))
            found = components.components(scores.ravel(), *np.indices(scores.shape).reshape(2, -1))
            bounds = components.grid_bounds(found, (first, then))
            held.append([holds(mean, 0.8), holds(bounds[0], of_first**2), holds(bounds[2], 0.01**2)])
        names = [
            "mean over crossed seeds, t",
            "variance over initialisations, Williams",
            "variance of the rest, chi-squared",
        ]
        for name, share in zip(names, np.mean(held, axis=0), strict=True):
            yield name, f"normal, {first} by {then}, {spread}", 0.95, float(share)


def instead(seed: int, draws: int) -> Iterator[tuple[str, str, float, float]]:
    """Yield the same for what the report does not use: the bootstrap of few seeds, crossed runs as if independent."""
    rng = np.random.default_rng([seed, 1])
    for seeds in (5, 10, 20):
        scores = [(rng.normal(0.8, 0.02, seeds),) for _ in range(draws)]
        found = [stats.bootstrap(own, np.mean, method="BCa", rng=rng).confidence_interval for own in scores]
        held = [interval.low <= 0.8 <= interval.high for interval in found]
        yield "mean over seeds, BCa", f"normal, {seeds} seeds", 0.95, float(np.mean(held))
    for count in (3, 5):
        grids = rng.normal(0, 0.02, (draws, count, 1)) + rng.normal(0, 0.01, (draws, count, count))
        held = [holds(interval(0.8 + grid.ravel()), 0.8) for grid in grids]
        where = f"normal, {count} by {count}, initialisations spread"
        yield "mean over crossed seeds, t, as if independent", where, 0.95, float(np.mean(held))


def holds(found, truth: float) -> bool:
    """Return whether an interval holds the truth; one that is not given, where it would have no width, does not."""
    return found.low is not None and found.low <= truth <= found.high


def pair(rng: np.random.Generator, settings: int, better: float = 0.0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the scores of two methods of which one is better by so much, five seeds in each setting."""
    return tuple([rng.normal(0.1 * i + more, 0.02, 5) for i in range(settings)] for more in (better, 0.0))


def alike(rng: np.random.Generator, settings: int, seeds: int) -> list[np.ndarray]:
    """Return the scores of a method, around 0.5 in each setting."""
    return [rng.normal(0.5, 0.02, seeds) for _ in range(settings)]


def on_grids(rng: np.random.Generator, settings: int) -> list[np.ndarray]:
    """Return the scores of a method, around 0 in each setting, for three initialisations with three orders each."""
    parts = [
        rng.normal(0, 0.02, (3, 1)) + rng.normal(0, 0.02, 3) + rng.normal(0, 0.01, (3, 3)) for _ in range(settings)
    ]
    return [scores.ravel() for scores in parts]


def beats_others(scores: np.ndarray) -> bool:
    """Return whether the method with the highest mean is told apart from another; scores: shape (methods, seeds)."""
    best = scores.mean(axis=1).argmax()
    p = stats.ttest_1samp(scores[best] - np.delete(scores, best, axis=0), 0, axis=1).pvalue
    return bool((holm(p) < 0.05).any())


def answers(rng: np.random.Generator, examples: int) -> np.ndarray:
    """Return right (1) and wrong (0) answers of two methods to the same examples, of which some are harder."""
    right = rng.beta(4, 1.5, examples)
    return (rng.random((2, examples)) < right).astype(int)


def table(draws: int, seed: int) -> Iterator[tuple[str, str, float, float]]:
    rng = np.random.default_rng(seed)
    yield from intervals(rng, draws)
    yield from tests(rng, draws)
    yield from crossings(rng, draws)
    yield from crossed(rng, draws)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="simulated studies a row; a sixth for slow ones")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("| interval or test | where | promised | found |\n| --- | --- | --- | --- |")
    for name, where, promised, found in table(given.draws, given.seed):
        print(f"| {name} | {where} | {100 * promised:g} % | {100 * found:.1f} % |", flush=True)
    for name, where, promised, found in instead(given.seed, given.draws):
        print(f"| not used: {name} | {where} | {100 * promised:g} % | {100 * found:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
