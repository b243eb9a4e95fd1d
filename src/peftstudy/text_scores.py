"""Scores of written texts beside one or several right ones."""

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

ROUGES = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeLsum": "rouge_l"}
"""The library's names, of which rougeLsum is the paper's (Lin, 2004) for texts of several lines, and ours."""
NO_WORDNET = "not computed: it wants WordNet among the data of nltk (python -m nltk.downloader wordnet; NLTK_DATA)"
COMPARABLE = {
    "chrf": "those of sacreBLEU with this signature",
    "bleu": "those of sacreBLEU with this signature; mteval, by which E2E is scored, takes capitals for small letters",
    "rouge": (
        "on English those of rouge-score without a stemmer; the ROUGE-L of image captions, by which E2E is scored, is "
        "another: an F that weighs recall more (beta 1.2), of the best precision and the best recall of any target"
    ),
    "nist": (
        "those of mteval-v13a; where the number of targets varies, programs differ in the length that they ask for"
    ),
    "cider": "those of pycocoevalcap, whose words are cut by another program, but for the second digit",
    "meteor": (
        "those of nltk, and on English alone, for its stems and synonyms are English; the Java program of most "
        "published values also matches paraphrases and weighs words by kind, and its values are far lower"
    ),
}
"""What can be scored in several ways -> which values from elsewhere can be set beside the ones found here."""


def scores(written: Sequence[str], targets: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return every score by name, larger is better; METEOR only where WordNet is at hand.

    chrF and BLEU of the whole, and ROUGE's F1 and METEOR by the best target of each, are from 0 to 1, CIDEr-D from 0
    to 10. NIST has no upper end.
    written: a text for each example. targets: for each the texts that would be right.
    """
    from peftstudy.cider import cider_d
    from peftstudy.nist import nist

    bleu, chrf = _corpus_metrics()
    streams = _streams(targets)
    small = [_words(text.lower()) for text in written], [[_words(text.lower()) for text in own] for own in targets]
    return {
        "chrf": chrf.corpus_score(list(written), streams).score / 100,
        "bleu": bleu.corpus_score(list(written), streams).score / 100,
        "nist": nist(*small),
        **_rouge(written, targets),
        "cider": cider_d(*small),
        **({"meteor": _meteor(*small)} if wordnet() else {}),
    }


def signatures(targets: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return how the scores of texts with these targets are computed, in the words of their libraries."""
    from importlib.metadata import version

    from peftstudy import cider, nist

    bleu, chrf = _corpus_metrics()
    numbers = sorted({len(own) for own in targets})
    streams = _streams([["a text"] * number for number in numbers])
    for metric in (bleu, chrf):
        metric.corpus_score(["a text"] * len(numbers), streams)  # the signature counts the targets of what was scored
    return {
        "bleu": str(bleu.get_signature()),
        "chrf": str(chrf.get_signature()),
        "rouge": (
            f"rouge-score:{version('rouge-score')}|F1 by the best target|no stemmer|"
            "lower case, words of letters and digits of any script"
        ),
        "nist": (
            f"NIST as mteval-v13a|n:{nist.WORDS}|all targets of a text count|length: the targets' mean|"
            "lower case, words of 13a"
        ),
        "cider": (
            f"CIDEr-D|n:{cider.WORDS}|sigma:{cider.SIGMA:g}|no stemmer|rarity in the targets that are scored|"
            "lower case, words of 13a"
        ),
        "meteor": (
            f"nltk:{version('nltk')}|English|alpha:0.9|beta:3|gamma:0.5|words, stems and synonyms of WordNet|"
            "mean by the best target|lower case, words of 13a"
            if wordnet()
            else NO_WORDNET
        ),
    }


def _corpus_metrics():
    from sacrebleu.metrics import BLEU, CHRF

    return BLEU(), CHRF()


def _streams(targets: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """Return the first target of each example, then the second, and so on; None where there is none."""
    most = max(map(len, targets))
    return [[own[number] if number < len(own) else None for own in targets] for number in range(most)]


def _rouge(written: Sequence[str], targets: Sequence[Sequence[str]]) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(ROUGES), tokenizer=_Letters())
    best = [scorer.score_multi(list(own), text) for text, own in zip(written, targets, strict=True)]
    return {name: sum(one[key].fmeasure for one in best) / len(best) for key, name in ROUGES.items()}


class _Letters:
    """The words of a text in any script, for ROUGE; of ASCII those of the library's own, which knows a to z alone."""

    def tokenize(self, text: str) -> list[str]:
        import regex

        # A letter may be one character, or two of which the second is its mark.
        return regex.findall(r"[\p{L}\p{M}\p{N}]+", unicodedata.normalize("NFC", text).lower())


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
