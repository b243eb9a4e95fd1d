"""CIDEr-D: how much of what several people say of a thing a text says, rare words counting more.

Source: Vedantam, Zitnick and Parikh (2015), sections 4 and 6. Runs of one to four words, each weighed by how often it
stands in the text and by how few examples have a target with it (TF-IDF). What a text repeats more often than a
target does not count, and its length is compared with the target's. As in the authors' code, words are not stemmed,
a length is a number of pairs of words, and the score is ten times the mean, from 0 to 10.
"""

from collections import Counter
from collections.abc import Sequence
from math import exp, hypot, log

from nltk.util import everygrams

WORDS = 4
"""The longest runs of words that count."""
SIGMA = 6.0
"""The spread of the penalty on lengths that differ."""

Words = Sequence[str]
Run = tuple[str, ...]


def cider_d(written: Sequence[Words], targets: Sequence[Sequence[Words]]) -> float:
    """Return the mean score of texts, each beside its targets, from 0 to 10.

    The targets of all examples say how rare a run of words is; with one example alone every run is in all of them,
    and the score is 0.

    >>> cider_d([["a", "red"], ["b"]], [[["a", "red"]], [["c"]]])
    2.5
    """
    examples_with = Counter(run for own in targets for run in set().union(*map(_runs, own)))
    rarity = {run: log(len(targets) / number) for run, number in examples_with.items()}
    most = log(len(targets))
    scores = [_score(text, own, rarity, most) for text, own in zip(written, targets, strict=True)]
    return 10 * sum(scores) / len(scores)


def _score(text: Words, targets: Sequence[Words], rarity: dict[Run, float], most: float) -> float:
    """Return the mean over targets and lengths of runs, from 0 to 1; runs of no target are as rare as any."""
    given = _runs(text)
    total = 0.0
    for target in targets:
        asked = _runs(target)
        penalty = exp(-((_pairs(text) - _pairs(target)) ** 2) / (2 * SIGMA**2))
        total += penalty * sum(_likeness(given, asked, rarity, most, length) for length in range(1, WORDS + 1)) / WORDS
    return total / len(targets)


def _likeness(given: Counter[Run], asked: Counter[Run], rarity: dict[Run, float], most: float, length: int) -> float:
    """Return the cosine of two vectors of weighed counts of runs of one length, the first's cut to the second's."""
    one = {run: count * rarity.get(run, most) for run, count in given.items() if len(run) == length}
    other = {run: count * rarity[run] for run, count in asked.items() if len(run) == length}
    lengths = hypot(*one.values()) * hypot(*other.values())
    shared = sum(min(weight, other[run]) * other[run] for run, weight in one.items() if run in other)
    return shared / lengths if lengths else 0.0


def _runs(words: Words) -> Counter[Run]:
    """Return how often each run of one to WORDS words occurs."""
    return Counter(everygrams(words, max_len=WORDS))


def _pairs(words: Words) -> int:
    return max(len(words) - 1, 0)
