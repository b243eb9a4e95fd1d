"""What is hidden of a text, against the papers' definitions."""

import itertools
import math

import numpy as np
import pytest

from peftstudy import corruption


def test_masking_follows_the_published_shares():
    special = {"cls": 0, "sep": 1, "pad": 2, "mask": 3}
    ids = np.random.default_rng(0).integers(4, 1000, (400, 64))
    ids[:, 0], ids[:, -1] = 0, 1
    hidden, chosen = corruption.mask_tokens(ids, np.random.default_rng(1), special, 1000)
    assert not chosen[:, [0, -1]].any()
    assert np.array_equal(hidden[~chosen], ids[~chosen])
    assert (chosen.sum(axis=1) == 10).all()  # 15 % of 64
    assert abs(np.corrcoef(chosen[:, 1], chosen[:, 2])[0, 1]) < 0.15 and np.ptp(chosen.mean(axis=0)[1:-1]) < 0.12
    shares = [(hidden[chosen] == 3).mean(), (hidden[chosen] == ids[chosen]).mean()]
    assert np.allclose(shares, [0.8, 0.1], atol=0.02)


def test_a_block_with_fewer_words_than_are_to_be_hidden_has_them_all_hidden():
    special = {"cls": 0, "sep": 1, "pad": 2, "mask": 3}
    ids = np.array([[0, 9, 1, 1, 1, 1, 1, 1], [0, 5, 6, 7, 8, 9, 4, 1]])
    _, chosen = corruption.mask_tokens(ids, np.random.default_rng(1), special, 1000, 0.3)
    assert chosen.sum(axis=1).tolist() == [1, 2] and chosen[0, 1]


SENTINELS = list(range(1000, 1100))


def whole(left, spans):
    """Put the spans back where their sentinels stand."""
    pieces = {int(piece[0]): piece[1:] for piece in np.split(spans, np.flatnonzero(spans >= 1000)) if len(piece)}
    return np.concatenate([pieces.pop(token) if token >= 1000 else [token] for token in left.tolist()]), pieces


@pytest.mark.parametrize(("length", "hidden", "count"), [(63, 9, 3), (512, 77, 26), (8, 1, 1)])
def test_spans_and_what_is_left_of_a_text_are_the_text(length, hidden, count):
    """Raffel et al. (2020), figure 2 and section 3.1.4: 15 % in spans of three, the last sentinel closes."""
    rng, ids, lengths = np.random.default_rng(0), np.arange(length), []
    for _ in range(200):
        left, spans = corruption.corrupt_spans(ids, rng, SENTINELS)
        found, rest = whole(left, spans)
        assert np.array_equal(found, ids)
        assert list(rest) == [SENTINELS[count]] and spans[-1] == SENTINELS[count] and not len(rest[SENTINELS[count]])
        assert (len(left), len(spans)) == (length - hidden + count, hidden + count + 1)
        marks = np.flatnonzero(left >= 1000)
        assert left[marks].tolist() == SENTINELS[:count] and (np.diff(marks) > 1).all(), "spans touch"
        lengths += np.diff(np.flatnonzero(spans >= 1000)).tolist()
    assert np.mean(lengths) - 1 == pytest.approx(hidden / count) and min(lengths) == 2


def test_every_place_of_a_text_is_hidden_as_often():
    rng, ids, counts = np.random.default_rng(0), np.arange(20), np.zeros(20)
    for _ in range(4000):
        spans = corruption.corrupt_spans(ids, rng, SENTINELS, 0.3, 2.0)[1]
        counts[spans[spans < 1000]] += 1
    assert (np.abs(counts / 4000 - 0.3) < 0.12).all() and counts.sum() == 4000 * 6


def test_infilling_hides_three_tenths_in_spans_by_poisson():
    """Lewis et al. (2020), section 2.2: one mask a span whatever its length, and one for a span of none."""
    rng, ids, lengths = np.random.default_rng(0), np.arange(100), []
    for _ in range(400):
        found = corruption.infill(ids, rng, 1000)
        kept = found[found < 1000]
        assert len(kept) == 70 and (np.diff(kept) > 0).all(), "a token is lost or moved"
        framed = np.concatenate([[-1], found, [100]])
        for place in np.flatnonzero(framed == 1000):
            if 1000 not in (framed[place - 1], framed[place + 1]):
                lengths.append(framed[place + 1] - framed[place - 1] - 1)
    assert sum(lengths) > 0.5 * 400 * 30
    shares = np.bincount(lengths, minlength=12)[:12] / len(lengths)
    expected = np.array([math.exp(-3) * 3**k / math.factorial(k) for k in range(12)])
    assert np.abs(shares - expected).max() < 0.03


def test_sentences_change_places_and_nothing_else():
    stops = np.zeros(10, bool)
    stops[9] = True
    ids = np.array([1, 2, 9, 3, 9, 4, 5, 6])
    found = {tuple(corruption.permute_sentences(ids, np.random.default_rng(seed), stops)) for seed in range(60)}
    sentences = [(1, 2, 9), (3, 9), (4, 5, 6)]
    assert found == {sum(order, ()) for order in itertools.permutations(sentences)}
