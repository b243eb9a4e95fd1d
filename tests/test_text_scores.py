"""Scores of texts, against values worked out by hand and the libraries' own defaults."""

import math

import numpy as np
import pandas as pd
import pytest

from peftstudy import baselines, tasks, text_scores
from peftstudy.errors import StudyError
from peftstudy.specs import Dataset

TARGET = "the old grey stone lies in the long wet river"


def test_the_right_text_has_the_highest_scores():
    found = text_scores.scores([TARGET, TARGET], [[TARGET], ["something else here", TARGET]])
    assert {name: value for name, value in found.items() if name != "nist"} == pytest.approx(
        dict.fromkeys(("chrf", "bleu", "rouge_1", "rouge_2", "rouge_l"), 1.0)
    )
    assert found["nist"] > text_scores.scores([TARGET[:20]] * 2, [[TARGET]] * 2)["nist"] > 0


def test_rouge_is_worked_out_by_hand():
    """Three of four words, two of three pairs, and the longest common sequence of three."""
    found = text_scores.scores(["a red apple fell"], [["a red apple rots"]])
    assert (found["rouge_1"], found["rouge_2"], found["rouge_l"]) == pytest.approx((3 / 4, 2 / 3, 3 / 4))


def test_bleu_is_worked_out_by_hand():
    """Runs of one to four words: 9 of 10, 7 of 9, 5 of 8, 3 of 7; as long as the target."""
    written = TARGET.replace("lies", "sits")
    counts = np.array([9 / 10, 7 / 9, 5 / 8, 3 / 7])
    assert text_scores.scores([written], [[TARGET]])["bleu"] == pytest.approx(math.exp(np.log(counts).mean()))


@pytest.mark.parametrize("written", ["", "nothing", "a"])
def test_texts_with_nothing_in_common_score_nothing(written):
    found = text_scores.scores([written], [["stone river"]])
    assert found["bleu"] == found["nist"] == found["rouge_1"] == 0 and found["chrf"] < 0.2


def test_signatures_name_what_makes_scores_comparable():
    found = text_scores.signatures()
    assert found.keys() == {"bleu", "chrf", "rouge", "nist"}
    assert "tok:13a" in found["bleu"] and "nc:6" in found["chrf"] and "nrefs" not in found["bleu"]


def rows(targets):
    return pd.DataFrame({"id": [f"r{i}" for i in range(len(targets))], "part": "all", "text": "x", "label": targets})


DATASET = Dataset("d", "s", "generation", ("text",), "target")


def test_a_target_is_one_text_or_a_list():
    found, labels = tasks.create("generation").label("here", DATASET, rows(["a stone", ["a river", "rivers"]]), None)
    assert found["label"].tolist() == [["a stone"], ["a river", "rivers"]] and labels == []


@pytest.mark.parametrize("bad", [None, " ", [], ["a", None]])
def test_a_row_without_a_target_is_refused(bad):
    with pytest.raises(StudyError, match=r"here: row r1 .*has no target text"):
        tasks.create("generation").label("here", DATASET, rows(["a stone", bad]), None)


def test_collapsed_texts():
    task = tasks.create("generation")
    assert task.collapsed(["a", "a"], [["a"], ["b"]]) and task.collapsed(["a", ""], [["a"], ["b"]])
    assert not task.collapsed(["a", "b"], [["c"], ["d"]])


def test_baselines_write_what_they_say():
    train = pd.DataFrame({"text": ["q"] * 3, "label": [["red apple"], ["red apple"], ["stone"]]})
    parts = {"train": train, "test": pd.DataFrame({"text": ["one two three four", "five"]})}
    assert baselines.commonest_target(parts) == ["red apple", "red apple"]
    assert baselines.copied_beginning(parts) == ["one two", "five"]


def test_a_name_that_is_no_class_is_wrong():
    from types import SimpleNamespace

    tokens = SimpleNamespace(about={"labels": ["Red Apple", "stone"]}, labels=np.array([0, 1, 1], np.int32))
    told = tasks.create("label-generation").told(["red  apple", "stones", "stone"], tokens, np.arange(3))
    assert told["predicted"].to_pylist() == [0, -1, 1] and told["text"].to_pylist()[1] == "stones"
    scores = tasks.create("label-generation").score([0, -1, 1], [0, 1, 1], ["Red Apple", "stone"])
    assert scores["accuracy"] == pytest.approx(2 / 3)
