"""Baselines: their known values, what they may look at, and that the solver runs to its end."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from peftstudy import tasks
from peftstudy.baselines import fitted, score_baselines
from peftstudy.errors import StudyError
from peftstudy.splits import PARTS, cut

SHARED = Path(os.environ.get("PEFTSTUDY_SHARED", Path(__file__).parents[2] / "shared"))
MAJORITY, TFIDF = "majority", "tfidf-logistic-regression"
CLASSIFICATION, LABELS = tasks.create("classification"), ["a", "b", "c"]
IMDB = SHARED / "data" / "imdb" / "train.jsonl.gz"


def made(size=600, pairs=False):
    """Return examples of three classes, of which a word (of pairs, of the second text) tells one from two."""
    rng = np.random.default_rng(0)
    classes = rng.choice(3, size, p=[0.5, 0.3, 0.2]).astype(np.int32)
    words = np.array([" ".join(rng.choice(["ash", "birch", "cedar", "elm"], 6)) for _ in classes])
    marked = [f"{text} mark{label}" for text, label in zip(words, classes, strict=True)]
    columns = {"id": np.arange(size).astype(str), "text": words if pairs else marked, "label": classes, "part": "all"}
    if pairs:
        columns["text_pair"] = marked
    frame = pd.DataFrame(columns)
    frame["text"] = [f"{number} {text}" for number, text in enumerate(frame["text"])]
    return frame


def parts_of(examples, validation=0.1):
    split = cut(examples, "90-10", validation, 0)
    return {part: getattr(split, part) for part in PARTS}


@pytest.mark.parametrize("pairs", [False, True])
def test_known_values(pairs):
    examples = made(pairs=pairs)
    parts = parts_of(examples)
    majority, tfidf = score_baselines(examples, parts, CLASSIFICATION, LABELS)
    share = (examples["label"].to_numpy()[parts["test"]] == 0).mean()
    assert majority["baseline"] == MAJORITY and majority["test_accuracy"] == pytest.approx(share)
    assert majority["test_f1_macro"] == pytest.approx(2 * share / (1 + share) / 3) and majority["test_mcc"] == 0
    assert tfidf["baseline"] == TFIDF and tfidf["test_accuracy"] == tfidf["test_mcc"] == 1


def test_texts_of_single_characters_have_baselines_too():
    examples = made()
    numbered = enumerate(examples["label"])
    examples["text"] = [" ".join([*str(number), "ACG"[label]]) for number, label in numbered]
    majority, tfidf = score_baselines(examples, parts_of(examples), CLASSIFICATION, LABELS)
    assert tfidf["test_accuracy"] > majority["test_accuracy"]


def test_the_task_s_metric_is_the_score_and_rows_repeat():
    examples = made()
    first = score_baselines(examples, parts_of(examples), CLASSIFICATION, LABELS, [TFIDF])
    assert first == score_baselines(examples, parts_of(examples), CLASSIFICATION, LABELS, [TFIDF])
    assert first[0]["test_score"] == first[0]["test_accuracy"]


def test_another_main_metric_is_the_score_and_chooses_the_penalty():
    """A mark that stands in most texts of a rare class and in as many others: to find none of it is most accurate."""
    rng = np.random.default_rng(0)
    classes = (rng.random(600) < 0.1).astype(np.int32)
    texts = [" ".join(rng.choice(["ash", "birch", "cedar", "elm"], 6)) for _ in classes]
    marked = np.where(classes == 1, rng.random(600) < 0.8, rng.random(600) < 0.1)
    texts = [f"{number} {text}" + " mark" * int(marked[number]) for number, text in enumerate(texts)]
    examples = pd.DataFrame({"id": np.arange(600).astype(str), "text": texts, "label": classes, "part": "all"})
    split = cut(examples, "50-50", 0.3, 0)
    by_accuracy, by_mcc = (
        score_baselines(examples, {part: getattr(split, part) for part in PARTS}, task, ["a", "b"], [TFIDF])[0]
        for task in (CLASSIFICATION, tasks.create("classification", metric="mcc"))
    )
    assert by_accuracy["test_score"] == by_accuracy["test_accuracy"] > 0.85 and by_accuracy["test_mcc"] == 0
    assert by_mcc["test_score"] == by_mcc["test_mcc"] > 0.3


def test_nothing_is_learned_from_test():
    # Labels of test that are the train's turned round are all missed, as they were never seen.
    examples = made()
    parts = parts_of(examples)
    turned = examples.copy()
    column = turned.columns.get_loc("label")
    turned.iloc[parts["test"], column] = (turned.iloc[parts["test"], column] + 1) % 3
    assert score_baselines(turned, parts, CLASSIFICATION, LABELS, [TFIDF])[0]["test_accuracy"] == 0


def test_without_validation_a_penalty_is_still_there():
    examples = made()
    parts = parts_of(examples, 0.0)
    assert score_baselines(examples, parts, CLASSIFICATION, LABELS, [TFIDF])[0]["test_accuracy"] > 0.95


def test_unknown_names_are_refused():
    examples = made()
    with pytest.raises(StudyError, match=r"unknown baseline 'majorty'.*Did you mean 'majority'"):
        score_baselines(examples, parts_of(examples), CLASSIFICATION, LABELS, ["majorty"])


@pytest.mark.skipif(not IMDB.is_file(), reason="the IMDb files are not on this machine")
def test_the_solver_runs_to_its_end():
    """One that stops early is four points worse here, and gives no warning; fewer reviews do not show it."""
    with gzip.open(IMDB, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(12_000), strict=False)]
    classes = np.array([row["label"] for row in rows])
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, dtype=np.float32)
    features = vectorizer.fit_transform([row["text"] for row in rows])
    strict = LogisticRegression(C=4.0, max_iter=1000, tol=1e-6).fit(features[:10_800], classes[:10_800])
    expected = strict.score(features[10_800:], classes[10_800:])
    found = fitted(features[:10_800], classes[:10_800], 4.0).score(features[10_800:], classes[10_800:])
    assert expected > 0.88 and found == pytest.approx(expected, abs=0.01)


def test_a_validation_part_of_one_number_chooses_no_penalty():
    examples = made(60).assign(label=np.linspace(0, 1, 60))
    parts = {"train": np.arange(40), "validation": np.array([40]), "test": np.arange(41, 60)}
    rows = score_baselines(examples, parts, tasks.create("regression"), [], ["tfidf-ridge"])
    assert np.isfinite(rows[0]["test_rmse"])
