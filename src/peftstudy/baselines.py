"""Baselines that need no language model: what any method must beat."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from peftstudy.errors import unknown
from peftstudy.tasks import Task

PENALTIES = (1.0, 4.0, 16.0, 64.0)
"""The inverse strengths of regularisation, of which validation chooses one."""

Parts = Mapping[str, pd.DataFrame]
"""The examples of train, validation and test."""

Judge = Callable[[Any, Any, np.ndarray], float]
"""How good a fitted model is: by it, the features of some examples, and what they should give."""

Fit = Callable[[Any, np.ndarray, float], Any]
"""What is fitted: by the features of some examples, what they should give, and a penalty."""


def score_baselines(
    examples: pd.DataFrame,
    parts: Mapping[str, np.ndarray],
    task: Task,
    labels: Sequence[str],
    names: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return each baseline's scores on test, a row each: fitted on train, chosen on validation.

    parts: the example numbers of train, validation and test. labels: the names of the classes.
    names: the task's own baselines, unless given. The words of a pair's two texts count apart.
    """

    def judge(model: Any, features: Any, targets: np.ndarray) -> float:
        """Return the main metric, of the task's own what scikit-learn has for it: accuracy, explained variance."""
        if task.metric == type(task).metric:
            return float(model.score(features, targets))
        return task.score(model.predict(features).tolist(), targets.tolist(), labels)[task.metric]

    cut = {part: examples.iloc[numbers] for part, numbers in parts.items()}
    rows = []
    for name in task.baselines if names is None else names:
        if name not in {**ANSWER, **BY_WORDS}:
            raise unknown("baselines", "baseline", name, {**ANSWER, **BY_WORDS})
        answers = _by_words(cut, judge, BY_WORDS[name]) if name in BY_WORDS else ANSWER[name](cut)
        scores = task.score(answers, task.answers(cut["test"]), labels)
        rows.append(
            {"baseline": name, "test_score": scores[task.metric]} | {f"test_{key}": scores[key] for key in scores}
        )
    return rows


def majority(parts: Parts) -> list[int]:
    """Predict train's most frequent class (the first of several)."""
    classes = parts["train"]["label"]
    model = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(classes), 1)), classes)
    return model.predict(np.zeros((len(parts["test"]), 1))).tolist()


def mean(parts: Parts) -> list[float]:
    """Predict train's mean."""
    return [float(parts["train"]["label"].mean())] * len(parts["test"])


def majority_word(parts: Parts) -> list[list[int]]:
    """Give every word train's most frequent label."""
    usual = _most_common(np.concatenate(parts["train"]["label"].tolist()))
    return [[usual] * len(words) for words in parts["test"]["text"]]


def usual_label(parts: Parts) -> list[list[int]]:
    """Give each word the label that it has most often in train; an unknown one train's most frequent."""
    seen: dict[str, Counter[int]] = {}
    for words, labels in zip(parts["train"]["text"], parts["train"]["label"], strict=True):
        for word, label in zip(words, labels, strict=True):
            seen.setdefault(word, Counter())[int(label)] += 1
    usual = _most_common(np.concatenate(parts["train"]["label"].tolist()))
    best = {word: counts.most_common(1)[0][0] for word, counts in seen.items()}
    return [[best.get(word, usual) for word in words] for words in parts["test"]["text"]]


def _most_common(labels: np.ndarray) -> int:
    return int(np.bincount(labels).argmax())


def choices_alone(parts: Parts) -> list[int]:
    """Choose by the words of the choices, without the text that they belong to."""
    train, test = parts["train"], parts["test"]
    vectorizer = _vectorizer(np.concatenate(train["choices"].tolist()), ngram_range=(1, 2), dtype=np.float32)
    is_right = [number == label for label, row in zip(train["label"], train["choices"], strict=True)
                for number in range(len(row))]  # fmt: skip
    model = fitted(vectorizer.transform(np.concatenate(train["choices"].tolist())), np.array(is_right), 1.0)
    scores = model.decision_function(vectorizer.transform(np.concatenate(test["choices"].tolist())))
    return scores.reshape(len(test), -1).argmax(axis=1).tolist()


def similar_sentence(parts: Parts) -> list[str]:
    """Answer with the sentence of the context that shares most with the question, rare words counting more."""
    vectorizer = _vectorizer(parts["train"]["text_pair"])
    answers = []
    for question, context in zip(parts["test"]["text"], parts["test"]["text_pair"], strict=True):
        sentences = re.split(r"(?<=[.!?])\s+", context)
        likeness = vectorizer.transform(sentences) @ vectorizer.transform([question]).T
        answers.append(sentences[int(likeness.toarray().argmax())])
    return answers


def copied_beginning(parts: Parts) -> list[str]:
    """Repeat the first words of the text, as many as train's targets have by the median."""
    usual = int(np.median([len(own[0].split()) for own in parts["train"]["label"]]))
    return [" ".join(text.split()[:usual]) for text in parts["test"]["text"]]


def commonest_target(parts: Parts) -> list[str]:
    """Write train's most frequent target for each text; of equals, the one that shares most words with the others."""
    targets = [own[0] for own in parts["train"]["label"]]
    words = Counter(word for target in targets for word in set(target.split()))
    counts = Counter(targets)
    typical = {target: np.mean([words[word] for word in target.split()]) for target in counts}
    return [max(counts, key=lambda target: (counts[target], typical[target]))] * len(parts["test"])


def _vectorizer(texts: Iterable[str], **options: Any) -> TfidfVectorizer:
    """Return TF-IDF of the words of two letters or more; where texts have none, of whatever stands between blanks."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, **options)
    try:
        return vectorizer.fit(texts)
    except ValueError:  # an empty vocabulary
        return vectorizer.set_params(token_pattern=r"\S+").fit(texts)


def fitted(features: Any, classes: np.ndarray, penalty: float) -> LogisticRegression:
    """Return a logistic regression fitted to its optimum.

    features: matrix, shape (examples, features). penalty: the inverse strength of regularisation.
    """
    # The solver's tolerance is on the mean loss: with ten times this one it ends after four steps on
    # IMDb's 40,500 reviews, without a warning, at an accuracy of 0.82 instead of 0.91.
    return LogisticRegression(C=penalty, max_iter=1000, tol=1e-4).fit(features, classes)


def ridge(features: Any, numbers: np.ndarray, penalty: float) -> Ridge:
    """Return a ridge regression; features and penalty as in `fitted`."""
    return Ridge(alpha=1 / penalty).fit(features, numbers)


def _by_words(parts: Parts, judge: Judge, fit: Fit) -> list:
    """Predict by TF-IDF of words and pairs of words; without validation the first of PENALTIES is used."""
    texts = {part: _texts(examples) for part, examples in parts.items()}
    labels = {part: examples["label"].to_numpy() for part, examples in parts.items()}
    # Whatever stands in one training text only tells nothing of another, but fills the memory.
    minimum = 2 if len(texts["train"]) > 10_000 else 1
    vectorizer = _vectorizer(texts["train"], ngram_range=(1, 2), min_df=minimum, dtype=np.float32)
    train = vectorizer.transform(texts["train"])
    validation = vectorizer.transform(texts["validation"]) if len(texts["validation"]) else None
    best, best_score = None, -np.inf
    for penalty in PENALTIES if validation is not None else PENALTIES[:1]:
        model = fit(train, labels["train"], penalty)
        score = 0.0 if validation is None else judge(model, validation, labels["validation"])
        if best is None or score > best_score:  # of a single number there is no score
            best, best_score = model, score
    return best.predict(vectorizer.transform(texts["test"])).tolist()


def _texts(examples: pd.DataFrame) -> list[str]:
    """Return the texts; of a pair also the second, its words marked so that they are not the first's."""
    if "text_pair" not in examples:
        return examples["text"].tolist()
    return [
        f"{first} | {' '.join('second_' + word for word in second.split())} {second}"
        for first, second in zip(examples["text"], examples["text_pair"], strict=True)
    ]


ANSWER: dict[str, Callable[[Parts], list]] = {
    "majority": majority,
    "majority-word": majority_word,
    "choices-alone": choices_alone,
    "commonest-target": commonest_target,
    "copied-beginning": copied_beginning,
    "mean": mean,
    "similar-sentence": similar_sentence,
    "usual-label": usual_label,
}
"""Baselines by name: the parts of a split -> its answers to test."""

BY_WORDS: dict[str, Fit] = {"tfidf-logistic-regression": fitted, "tfidf-ridge": ridge}
"""Baselines by name that are fitted to words and pairs of words, with the penalty that validation chooses."""
