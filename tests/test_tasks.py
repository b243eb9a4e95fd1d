"""Tasks: losses, predictions and scores against values worked out by hand."""

import math

import numpy as np
import pytest
import torch

from peftstudy import baselines, tasks, tokens
from peftstudy.errors import StudyError

CLASSIFICATION = tasks.create("classification")


def labelled(labels, **arrays):
    """Return tokens of which only the labels matter."""
    labels = np.array(labels)
    none = np.zeros(0, np.int32)
    return tokens.Tokens(none, none, none, labels, {}, arrays)


@pytest.mark.parametrize("name", tasks.registered())
def test_every_task_says_what_it_is(name):
    task = tasks.create(name)
    assert task.__doc__ and task.name == name and task.auto_class.startswith("AutoModelFor")
    assert task.metric in task.metrics and set(task.baselines) <= set(baselines.ANSWER)


@pytest.mark.parametrize("name", tasks.registered())
def test_a_study_goes_from_a_table_to_scores(name, family, make_task_tokens):
    """Perfect logits would be the task's own business; what every task's answers have is this."""
    task, found = tasks.create(name), tokens.load(make_task_tokens(name, family))
    index = np.array([7, 3, 90])
    texts = found.texts(index)
    read = task.read(found, texts)
    rows = len(texts) if read is None else int(read.sum())
    assert read is None or len(read) == found.lengths[texts].sum()
    logits = np.random.default_rng(0).normal(size=(rows, task.outputs(len(found.about["labels"])))).astype(np.float32)
    targets = torch.from_numpy(task.targets(found, index))
    loss = task.loss_sum(torch.from_numpy(logits), targets)
    assert loss.dtype == torch.float32 and loss.ndim == 0 and float(loss) > 0
    answers = task.predict(logits, found, index)
    assert answers.column_names[:2] == ["label", "predicted"] and len(answers) == 3
    predicted, labels = answers["predicted"].to_pylist(), answers["label"].to_pylist()
    scores = task.score(predicted, labels, found.about["labels"])
    assert set(scores) <= set(task.metrics) and all(type(value) is float for value in scores.values())
    perfect = task.score(labels if name != "extractive-qa" else [a[0] for a in labels], labels, found.about["labels"])
    assert perfect[task.metric] == pytest.approx(1) and scores[task.metric] < 1
    assert task.collapsed([predicted[0]] * 3, labels) or name in ("token-classification", "tagging")


def test_unknown_task():
    with pytest.raises(StudyError, match=r"^datasets\.imdb: unknown task .*Did you mean 'classification'"):
        tasks.create("clasification", "datasets.imdb")


def test_loss_is_mean_cross_entropy_in_float32():
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]], dtype=torch.bfloat16)
    targets = torch.tensor([1, 0], dtype=torch.int32)
    loss = CLASSIFICATION.loss(logits, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, rel=1e-2)
    assert CLASSIFICATION.loss_sum(logits, targets).item() == pytest.approx(2 * loss.item())


def test_predict():
    logits = np.array([[0.1, 0.9, 0.0], [2.0, 2.0, 1.0], [np.nan, 0.0, 0.0]], dtype=np.float32)
    answers = CLASSIFICATION.predict(logits, labelled([2, 0, 1]), np.arange(3))
    assert answers["predicted"].to_pylist() == [1, 0, -1] and answers["label"].to_pylist() == [2, 0, 1]


def test_scores_of_two_classes():
    targets, predicted = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0])
    scores = CLASSIFICATION.score(predicted, targets, ["no", "yes"])
    assert scores == pytest.approx({"accuracy": 3 / 5, "f1": 2 / 3, "f1_macro": (2 / 3 + 1 / 2) / 2, "mcc": 1 / 6})


def test_scores_of_three_classes():
    scores = CLASSIFICATION.score([0, 1, 1, 0], [0, 1, 2, 0], ["a", "b", "c"])
    assert set(scores) == {"accuracy", "f1_macro", "mcc"}
    assert scores["accuracy"] == 0.75 and scores["f1_macro"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_one_answer_to_everything_scores_no_correlation():
    scores = CLASSIFICATION.score([1, 1, 1, 1], [1, 0, 1, 1], ["no", "yes"])
    assert scores["mcc"] == 0 and scores["accuracy"] == 0.75


@pytest.mark.parametrize(
    ("predicted", "targets", "expected"),
    [
        ([1, 1, 1], [1, 0, 1], True),
        ([1, 0, 1], [1, 0, 1], False),
        ([1, 1, 1], [1, 1, 1], False),
        ([1, 0, -1], [1, 0, 1], True),
        ([1.0, 0.0, math.nan], [1, 0, 1], True),
    ],
)
def test_collapsed(predicted, targets, expected):
    assert CLASSIFICATION.collapsed(predicted, targets) is expected
