"""What is hidden of a text, for a model to find: tokens, spans of them, the order of its sentences."""

from collections.abc import Mapping, Sequence

import numpy as np


def mask_tokens(
    ids: np.ndarray, rng: np.random.Generator, special: Mapping[str, int], vocabulary: int, share: float = 0.15
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the tokens to be predicted and hide them: 80 % masked, 10 % at random, 10 % kept.

    ids: shape (blocks, length). special: the ids of cls, sep, pad and mask. share: of a block's length; as many are
    hidden in each, so that every step takes the same room: memory for logits of ever other sizes is found by growing.
    Returns the hidden ids and a mask of the chosen places, both of the shape of `ids`.
    Source: Devlin et al. (2019), section 3.1; that it is a share of the length is in their code, not in the paper.
    """
    count = max(1, round(share * ids.shape[1]))
    places = rng.random(ids.shape)
    places[np.isin(ids, [special[name] for name in ("cls", "sep", "pad")])] = 1.0
    chosen = (places <= np.partition(places, count - 1, axis=1)[:, [count - 1]]) & (places < 1.0)
    draw = rng.random(ids.shape)
    hidden = np.where(chosen & (draw < 0.8), special["mask"], ids)
    swapped = chosen & (draw >= 0.9)
    return np.where(swapped, rng.integers(0, vocabulary, ids.shape), hidden), chosen


def corrupt_spans(
    ids: np.ndarray, rng: np.random.Generator, sentinels: Sequence[int], share: float = 0.15, mean: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """Replace spans of a text by sentinels; return what is left, and the spans, each behind its sentinel.

    ids: shape (tokens,). sentinels: one more than there are spans; the last closes the second text.
    The number of hidden tokens is `share` of all, that of the spans such that they have `mean` tokens on average, so
    both results are as long for every text of a length. Spans do not touch.
    Source: Raffel et al. (2020), sections 3.1.4 and 3.3.4.
    """
    hidden = max(1, round(share * len(ids)))
    count = max(1, round(hidden / mean))
    cuts = 1 + np.sort(rng.choice(hidden - 1, count - 1, replace=False))
    lengths = np.diff([0, *cuts, hidden])
    starts = _starts(rng, len(ids) - hidden, lengths, touching=False)
    left, spans, end = [], [], 0
    for sentinel, start, length in zip(sentinels, starts, lengths, strict=False):
        left += [*ids[end:start], sentinel]
        end = start + length
        spans += [sentinel, *ids[start:end]]
    return np.array([*left, *ids[end:]]), np.array([*spans, sentinels[count]])


def infill(ids: np.ndarray, rng: np.random.Generator, mask: int, share: float = 0.3, mean: float = 3.0) -> np.ndarray:
    """Replace spans of a text by one mask each; a span of no tokens is a mask more.

    ids: shape (tokens,). Lengths are drawn from a Poisson distribution with that mean until `share` of the tokens are
    hidden; the last one is cut.
    Source: Lewis et al. (2020), section 2.2 (text infilling), with the share of section 5.1.
    """
    wanted = max(1, round(share * len(ids)))
    lengths = rng.poisson(mean, 2 * wanted + 8)
    while lengths.sum() < wanted:
        lengths = np.append(lengths, rng.poisson(mean, len(lengths)))
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), wanted)) + 1]
    lengths[-1] -= lengths.sum() - wanted
    found, end = [], 0
    for start, length in zip(_starts(rng, len(ids) - wanted, lengths, touching=True), lengths, strict=True):
        found += [*ids[end:start], mask]
        end = start + length
    return np.array([*found, *ids[end:]])


def permute_sentences(ids: np.ndarray, rng: np.random.Generator, stops: np.ndarray) -> np.ndarray:
    """Put the sentences of a text in any order.

    ids: shape (tokens,). stops: which tokens of the vocabulary end a sentence, shape (vocabulary,), booleans.
    Source: Lewis et al. (2020), section 2.2 (sentence permutation).
    """
    sentences = np.split(ids, np.flatnonzero(stops[ids[:-1]]) + 1)
    return np.concatenate([sentences[i] for i in rng.permutation(len(sentences))])


def _starts(rng: np.random.Generator, kept: int, lengths: np.ndarray, touching: bool) -> np.ndarray:
    """Draw where spans of these lengths begin among `kept` other tokens, each arrangement as likely.

    touching: whether no token need stand between two of them.
    """
    before = np.sort(rng.choice(kept + 1, len(lengths), replace=touching))
    return before + np.cumsum(lengths) - lengths
