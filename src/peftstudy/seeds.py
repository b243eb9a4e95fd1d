"""What chance draws in a run is drawn from: one seed, or one for the initialisation and one for the order.

The initialisation is all that is drawn before the first step; the order is all that is drawn from then on: the order of
examples, and dropout (workflow/decisions/seeds.md).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any


@dataclass(frozen=True)
class Apart:
    """Two seeds that differ, one for the initialisation and one for the order; equal ones are a plain seed."""

    initialization: int
    order: int

    def __str__(self) -> str:
        """Return how the seeds are written in names of runs and in tables."""
        return f"i{self.initialization}-o{self.order}"


Seed = int | Apart


def seed(value: Any) -> Seed:
    """Return the seed that a configuration or a record writes: a number, or a block of two.

    >>> seed({"initialization": 1, "order": 1}), str(seed({"initialization": 0, "order": 1}))
    (1, 'i0-o1')
    """
    if not isinstance(value, Mapping):
        return value
    return value["order"] if value["initialization"] == value["order"] else Apart(**value)


def plain(seed: Seed) -> Any:
    """Return a seed in plain JSON values; seed() makes it again."""
    return {"initialization": seed.initialization, "order": seed.order} if isinstance(seed, Apart) else seed


def of(block: Sequence | Mapping[str, Sequence[int]]) -> tuple[Seed, ...]:
    """Return the seeds that a configuration asks for: a list of them, or each initialisation with each order.

    >>> [str(one) for one in of({"initialization": [0, 1], "order": [0, 2]})]
    ['0', 'i0-o2', 'i1-o0', 'i1-o2']
    """
    if isinstance(block, Mapping):
        pairs = product(block["initialization"], block["order"])
        return tuple(seed({"initialization": first, "order": then}) for first, then in pairs)
    return tuple(map(seed, block))


def initialization(seed: Seed) -> int:
    return seed.initialization if isinstance(seed, Apart) else seed


def order(seed: Seed) -> int:
    return seed.order if isinstance(seed, Apart) else seed


def both(seed: Seed) -> tuple[int, int]:
    return initialization(seed), order(seed)


def parse(label: str | int) -> Seed:
    """Return the seed that is written so in the name of a run or in a table.

    >>> parse("7"), parse("i0-o12")
    (7, Apart(initialization=0, order=12))
    """
    first, _, then = str(label).partition("-")
    return Apart(int(first[1:]), int(then[1:])) if then else int(first)


def labels(seeds: Iterable[Any]) -> list[int] | list[str]:
    """Return how tables write some seeds: numbers where all are plain, texts where one is not.

    >>> labels(["2", 10]), labels([0, Apart(0, 1)])
    ([2, 10], ['0', 'i0-o1'])
    """
    written = list(map(str, seeds))
    return [int(label) for label in written] if all(label.isdigit() for label in written) else written


def shared(seeds: Iterable[Seed]) -> tuple[int, int]:
    """Return how many initialisations and how many orders some seeds have, if several share one of either; else 0, 0.

    >>> shared([0, 1, 2]), shared(of({"initialization": [0, 1], "order": [0, 1, 2]}))
    ((0, 0), (2, 3))
    """
    seeds = list(seeds)
    first, then = {initialization(one) for one in seeds}, {order(one) for one in seeds}
    return (0, 0) if len(first) == len(then) == len(seeds) else (len(first), len(then))


def is_grid(seeds: Sequence[Seed]) -> bool:
    """Whether several seeds share an initialisation or an order, and each initialisation has each order."""
    first, then = shared(seeds)
    return bool(first) and first * then == len(seeds)


def said(seeds: Sequence[Seed]) -> str:
    """Return which seeds a study has, in words.

    >>> said([0, 1]), said(of({"initialization": [0, 1], "order": [0, 1, 2]}))
    ('0, 1', 'initialisation 0, 1, each with order 0, 1, 2')
    """
    if not is_grid(seeds):
        return ", ".join(map(str, seeds))
    first, then = (dict.fromkeys(map(which, seeds)) for which in (initialization, order))
    return f"initialisation {', '.join(map(str, first))}, each with order {', '.join(map(str, then))}"


def counted(seeds: Sequence[Seed]) -> tuple[str, str]:
    """Return how many seeds a study has, in words: the number, and of what.

    >>> counted([0, 1]), counted(of({"initialization": [0, 1], "order": [0, 1, 2]}))
    (('2', 'seeds'), ('2 initialisations, each with 3', 'orders'))
    """
    first, then = shared(seeds)
    if is_grid(seeds):
        return f"{first} initialisation{'s' * (first > 1)}, each with {then}", "order" if then == 1 else "orders"
    return str(len(seeds)), "pairs of seeds" if first else "seed" if len(seeds) == 1 else "seeds"
