"""Scores of written texts beside one or several right ones."""

from collections.abc import Sequence
from functools import cache
from typing import Any

NIST_WORDS = 5
"""The longest runs of words that NIST counts (Doddington, 2002)."""
ROUGES = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeLsum": "rouge_l"}
"""The library's names, of which rougeLsum is the paper's (Lin, 2004) for texts of several lines, and ours."""


NO_WORDNET = "not computed: it wants WordNet among the data of nltk (python -m nltk.downloader wordnet; NLTK_DATA)"


def scores(written: Sequence[str], targets: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return every score by name, larger is better; METEOR only where WordNet is at hand.

    chrF and BLEU of the whole, and ROUGE's F1 and METEOR by the best target of each, are from 0 to 1, CIDEr-D from 0
    to 10. NIST has no upper end: it weighs runs of words by how rare they are among the targets.
    written: a text for each example. targets: for each the texts that would be right.
    """
    from peftstudy.cider import cider_d

    bleu, chrf = _corpus_metrics()
    streams = _streams(targets)
    given = [_words(text) for text in written]
    asked = [[_words(text) for text in own] for own in targets]
    small = [_words(text.lower()) for text in written], [[_words(text.lower()) for text in own] for own in targets]
    return {
        "chrf": chrf.corpus_score(list(written), streams).score / 100,
        "bleu": bleu.corpus_score(list(written), streams).score / 100,
        "nist": _nist(given, asked),
        **_rouge(written, targets),
        "cider": cider_d(*small),
        **({"meteor": _meteor(*small)} if wordnet() else {}),
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
        "cider": "CIDEr-D|n:4|sigma:6|no stemmer|rarity in the targets that are scored|lower case, words of 13a",
        "meteor": (
            f"nltk:{version('nltk')}|alpha:0.9|beta:3|gamma:0.5|words, stems and synonyms of WordNet|"
            "mean by the best target|lower case, words of 13a"
            if wordnet()
            else NO_WORDNET
        ),
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


@cache
def _tokenizer() -> Any:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()


def _words(text: str) -> list[str]:
    """Return the words of a text as BLEU's default cuts them."""
    return _tokenizer()(text).split()


def wordnet() -> Any | None:
    """Return nltk's reader of WordNet, where its data are on this machine."""
    import nltk

    for place in ("corpora/wordnet", "corpora/wordnet.zip/wordnet/"):
        try:
            return _reader(nltk.data.find(place))
        except LookupError:
            continue
    return None


@cache
def _reader(root: Any) -> Any:
    import warnings

    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that other languages than English want further data
        return WordNetCorpusReader(root, None)


def _meteor(given: Sequence[list[str]], asked: Sequence[Sequence[list[str]]]) -> float:
    """Return the mean METEOR by the best target of each (Banerjee and Lavie, 2005)."""
    from nltk.translate.meteor_score import meteor_score

    best = [meteor_score(own, text, wordnet=wordnet()) for text, own in zip(given, asked, strict=True)]
    return float(sum(best) / len(best))


def _nist(given: Sequence[list[str]], asked: Sequence[Sequence[list[str]]]) -> float:
    """Return NIST of the whole; 0 where nothing that was written has as many words as are counted at once."""
    from nltk.translate.nist_score import corpus_nist

    try:
        return float(corpus_nist(asked, given, n=NIST_WORDS))
    except ZeroDivisionError:
        return 0.0
