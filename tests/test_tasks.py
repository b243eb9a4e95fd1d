"""Tasks: losses, predictions and scores against values worked out by hand."""

import math

import numpy as np
import pytest
import torch

from peftstudy import tasks
from peftstudy.errors import StudyError

CLASSIFICATION = tasks.create("classification")


@pytest.mark.parametrize("name", tasks.registered())
def test_every_task_says_what_it_is(name):
    task = tasks.create(name)
    assert task.__doc__ and task.name == name and task.auto_class.startswith("AutoModelFor")
    scores = task.score(np.array([0, 1, 1]), np.array([0, 1, 0]), 2)
    assert task.metric in scores and all(type(value) is float for value in scores.values())


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
    assert CLASSIFICATION.predict(logits).tolist() == [1, 0, -1]


def test_scores_of_two_classes():
    targets, predicted = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0])
    scores = CLASSIFICATION.score(predicted, targets, 2)
    assert scores == pytest.approx({"accuracy": 3 / 5, "f1": 2 / 3, "f1_macro": (2 / 3 + 1 / 2) / 2, "mcc": 1 / 6})


def test_scores_of_three_classes():
    scores = CLASSIFICATION.score(np.array([0, 1, 1, 0]), np.array([0, 1, 2, 0]), 3)
    assert set(scores) == {"accuracy", "f1_macro", "mcc"}
    assert scores["accuracy"] == 0.75 and scores["f1_macro"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_one_answer_to_everything_scores_no_correlation():
    scores = CLASSIFICATION.score(np.ones(4, int), np.array([1, 0, 1, 1]), 2)
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
    assert CLASSIFICATION.collapsed(np.array(predicted), np.array(targets)) is expected
