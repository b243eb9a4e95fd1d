"""NIST: how much the runs of words tell that a text shares with what several people wrote, rare runs telling more.

Source: Doddington (2002), "Automatic evaluation of machine translation quality using n-gram co-occurrence statistics",
as mteval-v13a computes it, whose values are the published ones. A run of one to five words tells log2 of how often its
beginning, all words but the last, occurs in the targets for each time that the run does. Of the targets of a text all
count: a run is right as often as the target has it that has it most, and lengths are compared with the targets' mean.
"""

from collections import Counter
from collections.abc import Sequence
from math import exp, log, log2

from nltk.util import everygrams

WORDS = 5
"""The longest runs of words that count."""
HALVED = 2 / 3
"""The share of the targets' words at which the penalty on short texts is a half."""

Words = Sequence[str]
Run = tuple[str, ...]


def nist(written: Sequence[Words], targets: Sequence[Sequence[Words]]) -> float:
    """Return the score of texts, each beside its targets; from 0, without an upper end.

    The targets of all texts together say how rare a run of words is.

    >>> nist([["a", "red"], ["a"]], [[["a", "red"], ["a"]], [["a"]]])
    2.528320833573719
    """
    seen = Counter(run for own in targets for target in own for run in _runs(target))
    seen[()] = sum(len(target) for own in targets for target in own)
    told, counts = [0.0] * WORDS, [0] * WORDS
    for text, own in zip(written, targets, strict=True):
        right = Counter[Run]()
        for target in own:
            right |= Counter(_runs(target))
        for run, count in Counter(_runs(text)).items():
            counts[len(run) - 1] += count
            told[len(run) - 1] += min(count, right[run]) * (log2(seen[run[:-1]] / seen[run]) if run in right else 0)
    asked = sum(sum(map(len, own)) / len(own) for own in targets)
    return _penalty(counts[0] / asked) * sum(told[n] / max(counts[n], 1) for n in range(WORDS))


def _runs(words: Words) -> list[Run]:
    return list(everygrams(words, max_len=WORDS))


def _penalty(share: float) -> float:
    """Return what is left of the score of texts that have this share of the words of their targets.

    >>> _penalty(2), _penalty(HALVED), _penalty(0)
    (1.0, 0.5, 0.0)
    """
    return exp(log(0.5) * (log(min(share, 1)) / log(HALVED)) ** 2) if share else 0.0
