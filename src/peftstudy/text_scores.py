"""Scores of written texts beside one or several right ones."""

from collections.abc import Sequence

NIST_WORDS = 5
"""The longest runs of words that NIST counts (Doddington, 2002)."""
ROUGES = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeLsum": "rouge_l"}
"""The library's names, of which rougeLsum is the paper's (Lin, 2004) for texts of several lines, and ours."""


def scores(written: Sequence[str], targets: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return every score by name, larger is better; all but NIST from 0 to 1.

    written: a text for each example. targets: for each the texts that would be right.
    """
    bleu, chrf = _corpus_metrics()
    streams = _streams(targets)
    return {
        "chrf": chrf.corpus_score(list(written), streams).score / 100,
        "bleu": bleu.corpus_score(list(written), streams).score / 100,
        "nist": _nist(written, targets),
        **_rouge(written, targets),
    }


def signatures() -> dict[str, str]:
    """Return how the scores are computed, in the words of their libraries."""
    from importlib.metadata import version

    bleu, chrf = _corpus_metrics()
    streams = [["a text"]]
    for metric in (bleu, chrf):
        metric.corpus_score(["a text"], streams)  # the signature counts the targets of what was scored
    return {
        "bleu": _without_references(bleu),
        "chrf": _without_references(chrf),
        "rouge": f"rouge-score:{version('rouge-score')}|F1 by the best target|no stemmer",
        "nist": f"nltk:{version('nltk')}|n:{NIST_WORDS}|words of 13a",
    }


def _without_references(metric) -> str:
    return "|".join(part for part in str(metric.get_signature()).split("|") if not part.startswith("nrefs"))


def _corpus_metrics():
    from sacrebleu.metrics import BLEU, CHRF

    return BLEU(), CHRF()


def _streams(targets: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """Return the first target of each example, then the second, and so on; None where there is none."""
    most = max(map(len, targets))
    return [[own[number] if number < len(own) else None for own in targets] for number in range(most)]


def _rouge(written: Sequence[str], targets: Sequence[Sequence[str]]) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(ROUGES))
    best = [scorer.score_multi(list(own), text) for text, own in zip(written, targets, strict=True)]
    return {name: sum(one[key].fmeasure for one in best) / len(best) for key, name in ROUGES.items()}


def _nist(written: Sequence[str], targets: Sequence[Sequence[str]]) -> float:
    """Return NIST of the whole; 0 where nothing that was written has as many words as are counted at once."""
    from nltk.translate.nist_score import corpus_nist
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    words = Tokenizer13a()
    given = [words(text).split() for text in written]
    asked = [[words(text).split() for text in own] for own in targets]
    try:
        return float(corpus_nist(asked, given, n=NIST_WORDS))
    except ZeroDivisionError:
        return 0.0
