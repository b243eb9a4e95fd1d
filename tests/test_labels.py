"""Rows that do not fit their task: each has its sentence, which names the row, what was found and the column."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from made_tasks import COLUMNS, dataset, table, write_table
from tokenizers import Regex, normalizers
from transformers import AutoTokenizer

from peftstudy import labels, tasks
from peftstudy.errors import StudyError
from peftstudy.examples import read_examples
from peftstudy.splits import cut


def read(tmp_path, task, rows=None, **changes):
    return read_examples(dataset(task, **changes), write_table(tmp_path, table(60) if rows is None else rows), 0)


def spoilt(column, value, row=3):
    rows = table(60)
    rows[column] = rows[column].astype(str if isinstance(value, str) else object)
    rows.at[row, column] = value
    return rows


AMISS = "mend or leave out the rows."


@pytest.mark.parametrize(
    ("task", "column", "value", "says"),
    [
        (
            "regression", "share", "much",
            f"row r3 (part all) has the label 'much', which is no number (column 'share'); {AMISS}",
        ),
        ("regression", "share", None, f"row r3 (part all) has no label (column 'share'); {AMISS}"),
        ("regression", "other", " ", f"row r3 (part all) has an empty text (column 'other'); {AMISS}"),
        ("tagging", "tags", ["own"], f"and 1 labels (columns 'words', 'tags'); {AMISS}"),
        ("tagging", "tags", None, f"row r3 (part all) has no labels (column 'tags'); {AMISS}"),
        ("token-classification", "entities", ["O", None], f"and 2 labels (columns 'words', 'entities'); {AMISS}"),
        ("multiple-choice", "choices", ["one", "two"], f"row r3 (part all) has 2 choices where others have 3; {AMISS}"),
        ("multiple-choice", "choices", [*"abcd"], f"row r3 (part all) has 4 choices where others have 3; {AMISS}"),
        ("multiple-choice", "choices", ["a", " ", "c"], f"row r3 (part all) has an empty choice ('choices'); {AMISS}"),
        ("multiple-choice", "choices", None, f"row r3 (part all) has an empty choice ('choices'); {AMISS}"),
        ("multiple-choice", "label", 3,
         f"row r3 (part all) has the label '3' where the choices are 0, 1, 2 (column 'label'); {AMISS}"),
        ("extractive-qa", "answers", [{"text": "nowhere", "answer_start": 2}],
         f"row r3 (part all) has an answer that does not stand in the context where its answer_start says; {AMISS}"),
        ("extractive-qa", "answers", [{"text": "stone", "answer_start": None}],
         f"row r3 (part all) has no answers with text and answer_start (column 'answers'); {AMISS}"),
        ("regression", "share", float("nan"), f"row r3 (part all) has no label (column 'share'); {AMISS}"),
        ("classification", "label", float("nan"), f"row r3 (part all) has no label (column 'label'); {AMISS}"),
        ("extractive-qa", "answers", [],
         f"row r3 (part all) has no answer, and a question without one is not for this task; {AMISS}"),
        ("extractive-qa", "answers", None,
         f"row r3 (part all) has no answers with text and answer_start (column 'answers'); {AMISS}"),
        ("extractive-qa", "question", "", f"row r3 (part all) has an empty text (column 'question'); {AMISS}"),
    ],
)  # fmt: skip
def test_a_row_that_does_not_fit_is_named(task, column, value, says, tmp_path):
    with pytest.raises(StudyError) as error:
        read(tmp_path, task, spoilt(column, value))
    assert str(error.value).startswith("datasets.made: row r3 (part all) ") and str(error.value).endswith(says)


@pytest.mark.parametrize(
    ("task", "changes", "says"),
    [
        ("multiple-choice", {"choices": ("chioces",)}, r"unknown column 'chioces'.*Did you mean 'choices'"),
        ("multiple-choice", {"blank": "_"}, r"row r0 \(part all\) has no blank '_' \(column 'text'\), and 59 more"),
        ("multiple-choice", {"labels": ("0", "1")}, "has the label '2' where the choices are 0, 1"),
        (
            "token-classification",
            {"label": "tags"},
            "the label 'common' is neither O nor begins with B- or I-",
        ),
        ("tagging", {"text": ("answers",)}, r"the column 'answers' holds list<.*>, not lists of text"),
        ("classification", {"label": "words"}, "the column 'words' holds list<.*>, not text or labels"),
        ("extractive-qa", {"label": "words"}, r"has no answers with text and answer_start \(column 'words'\)"),
        ("extractive-qa", {"group": "titel"}, "unknown column 'titel'"),
        ("regression", {"label": "text"}, r"has the label '.+', which is no number \(column 'text'\), and 59 more"),
    ],
)
def test_a_column_that_does_not_fit_is_named(task, changes, says, tmp_path):
    with pytest.raises(StudyError, match=says):
        read(tmp_path, task, **changes)


@pytest.mark.parametrize("task", tasks.registered())
def test_a_task_with_classes_names_them(task, tmp_path):
    named = read(tmp_path, task)[1]["labels"]
    assert tasks.create(task).classes == (bool(named) and task != "multiple-choice"), "whose labels are places"


@pytest.mark.parametrize("task", ["classification", "label-generation"])
def test_classes_are_called_by_their_names(task, tmp_path):
    names = ("Tables", "pictures", "letters")
    found, report = read(tmp_path, task, label="label", names=names, labels=("2", "0", "1"))
    plain, before = read(tmp_path, task, label="label", labels=("2", "0", "1"))
    assert report["labels"] == report["names"] == list(names) and before["labels"] == ["2", "0", "1"]
    assert found["label"].tolist() == plain["label"].tolist()
    assert report["counts"] == dict(zip(names, before["counts"].values(), strict=True))
    assert "names" not in before and "metric" not in before
    if task == "label-generation":
        assert {*zip(found["label"], found["target"], strict=True)} == {*enumerate(names)}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"names": ("one", "two")}, r"datasets\.made\.names: found 2 \(one, two\), and there are 3 labels \(0, 1, 2\)"),
        ({"metric": "f1"}, r"datasets\.made\.metric: f1 is that of the second of two classes, and there are 3"),
    ],
)
def test_what_is_said_of_classes_fits_those_that_are_there(changes, says, tmp_path):
    with pytest.raises(StudyError, match=says):
        read(tmp_path, "classification", **changes)


def test_labels_that_are_written_can_be_told_apart(tmp_path):
    rows = table(60).assign(library=["stone", "Stone"] * 30)
    with pytest.raises(StudyError, match="'Stone' and 'stone' read alike"):
        read(tmp_path, "label-generation", rows)
    assert read(tmp_path, "classification", rows, label="library")[1]["labels"] == ["Stone", "stone"]


def test_a_class_is_written_by_its_name_and_read_back(tmp_path, make_backbone):
    task, names = tasks.create("label-generation"), ("Old stone", "a river", "a tavern")
    found, report = read(tmp_path, task.name, label="label", names=names)
    tokenizer = AutoTokenizer.from_pretrained(make_backbone("gpt2"), local_files_only=True)
    tokenizer.pad_token, tokenizer.model_input_names = tokenizer.eos_token, ["input_ids", "attention_mask"]
    made = task.encode(found, tokenizer, 24, target_length=24)
    begins, ids = made.arrays["targets"], made.arrays["target_ids"]
    written = [tokenizer.decode(ids[begin : end - 1]) for begin, end in pairwise(begins)]
    assert written == [names[number] for number in found["label"]]
    made.about["labels"] = report["labels"]
    assert task.told(written, made, np.arange(60))["predicted"].to_pylist() == found["label"].tolist()
    longest = int(np.diff(begins).max())
    assert task.encode(found, tokenizer, 24, target_length=longest).about["target_length"] == longest
    with pytest.raises(StudyError, match=f"target_length: found {longest - 1}, and the class '.*' takes {longest} "):
        task.encode(found, tokenizer, 24, target_length=longest - 1)


def test_a_target_that_is_cut_is_counted(tmp_path, make_backbone):
    found, _ = read(tmp_path, "generation")
    found = found.iloc[:4].assign(text="stone", label=[["a"], ["a"], ["a"], ["a grey stone " * 9]])
    tokenizer = AutoTokenizer.from_pretrained(make_backbone("bart"), local_files_only=True)
    made = tasks.create("generation").encode(found, tokenizer, 24, target_length=8)
    assert made.about["truncated_share"] == 0.25 and np.diff(made.arrays["targets"]).max() == 8


def test_a_class_that_the_tokenizer_cannot_write_is_refused(tmp_path, make_backbone):
    task = tasks.create("label-generation")
    found, _ = read(tmp_path, task.name, label="label", names=("Sport", "Politik", "Kultur"))
    tokenizer = AutoTokenizer.from_pretrained(make_backbone("bert"), local_files_only=True)
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(Regex("[SP].*"), "\u2603")
    with pytest.raises(StudyError, match=r"names: the class '(Sport|Politik)' comes back as '' from the backbone's"):
        task.encode(found, tokenizer, 24, target_length=24)


def test_labels_have_one_order_however_they_are_written():
    assert labels.in_order(["1", "01", "7", "07", "--5", "-2"]) == ["-2", "01", "1", "07", "7", "--5"]


def test_a_word_that_is_null_is_refused(tmp_path):
    rows = table(60)
    rows.at[3, "words"] = [None, *rows.at[3, "words"][1:]]
    with pytest.raises(StudyError, match=r"row r3 \(part all\) has a word that is null \(column 'words'\); mend"):
        read(tmp_path, "tagging", rows)


def test_a_row_without_a_group_is_refused(tmp_path):
    rows = table(60)
    rows["speaker"] = [None if number == 3 else str(number % 5) for number in range(60)]
    with pytest.raises(StudyError, match=r"row r3 \(part all\) has no group \(column 'speaker'\); mend"):
        read(tmp_path, "classification", rows, group="speaker")


def test_one_label_for_all_words_is_no_task(tmp_path):
    rows = table(60)
    rows["tags"] = rows["words"].map(lambda words: ["own"] * len(words))
    with pytest.raises(StudyError, match="the column 'tags' holds one label only"):
        read(tmp_path, "tagging", rows)


def test_words_and_labels_may_be_written_in_one_string_each(tmp_path):
    lists, _ = read(tmp_path, "tagging")
    rows = table(60)
    for column in ("words", "tags"):
        rows[column] = rows[column].map(" ".join)
    strings, report = read(tmp_path, "tagging", rows)
    assert report["labels"] == ["common", "own"] and sum(report["counts"].values()) == sum(map(len, lists["text"]))
    for column in ("text", "label"):
        assert all(np.array_equal(a, b) for a, b in zip(lists[column], strings[column], strict=True))


def test_the_labels_of_words_may_be_numbers_as_on_the_hub(tmp_path):
    named, _ = read(tmp_path, "tagging")
    rows = table(60)
    rows["tags"] = rows["tags"].map(lambda tags: [("common", "own").index(tag) for tag in tags])
    numbered, report = read(tmp_path, "tagging", rows)
    assert report["labels"] == ["0", "1"]
    assert all(np.array_equal(a, b) for a, b in zip(named["label"], numbered["label"], strict=True))


def test_answers_may_be_columns_as_on_the_hub(tmp_path):
    rows = table(60)
    expected, _ = read(tmp_path, "extractive-qa", rows)
    rows["answers"] = [{key: [a[key] for a in found] for key in ("text", "answer_start")} for found in rows["answers"]]
    assert read(tmp_path, "extractive-qa", rows)[0]["label"].tolist() == expected["label"].tolist()


def test_choices_may_be_columns_and_labels_names(tmp_path):
    rows = table(60)
    for number, name in enumerate(["one", "two", "three"]):
        rows[name] = [choices[number] for choices in rows["choices"]]
    rows["label"] += 1
    given, report = read(tmp_path, "multiple-choice", rows, choices=("one", "two", "three"), labels=("1", "2", "3"))
    expected, _ = read(tmp_path, "multiple-choice")
    assert given["choices"].tolist() == expected["choices"].tolist() and report["labels"] == ["1", "2", "3"]
    assert given["label"].tolist() == expected["label"].tolist()


@pytest.mark.parametrize("task", sorted(set(COLUMNS) - {"classification"}))
def test_examples_are_drawn_and_cut_whatever_the_label_is(task, tmp_path):
    draws = [read(tmp_path, task, table(200), examples=size)[0] for size in (90, 150)]
    assert set(draws[0]["id"]) < set(draws[1]["id"])
    split = cut(draws[1], "90-10", 0.1, 0)
    assert sum(split.report["sizes"].values()) == 150 and split.report["duplicates"]["test"] == 0
    labels = set("012") if task in ("label-generation", "multiple-choice") else set()
    assert set(split.report["labels"]["train"]) == labels
    assert set(COLUMNS) == set(tasks.registered())


def test_numbers_are_drawn_in_the_shares_that_they_have(tmp_path):
    examples, _ = read(tmp_path, "regression", table(400))
    split = cut(examples, "30-70", 0.1, 0)
    for part in (split.train, split.test):
        shares = np.bincount(examples["stratum"].to_numpy()[part], minlength=10) / len(part)
        assert np.abs(shares - 0.1).max() < 0.02
    ordered = examples.sort_values("stratum")["label"].to_numpy()
    assert (np.diff(ordered.reshape(10, -1).max(axis=1)) >= 0).all()


@pytest.mark.parametrize("name", ["90-10", "30-70", "size-60"])
def test_a_group_falls_into_one_part(name, tmp_path):
    rows = table(400).assign(article=[f"a{number // 10}" for number in range(400)])
    examples, _ = read(tmp_path, "extractive-qa", rows, group="article")
    split = cut(examples, name, 0.1, 0)
    groups = [set(examples["group"].iloc[part]) for part in (split.train, split.validation, split.test)]
    assert all(groups) and not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    if name == "size-60":
        whole = cut(examples, "90-10", 0.1, 0)
        assert set(split.train) < set(whole.train) and set(split.validation) < set(whole.validation)
        assert np.array_equal(split.test, whole.test) and len(split.train) + len(split.validation) == 60


@pytest.mark.parametrize("task", ["tagging", "extractive-qa", "multiple-choice"])
def test_copies_are_kept_out_with_their_second_texts_and_choices(task, tmp_path):
    rows = pd.concat([table(100), table(100)[:60]], ignore_index=True)
    assert cut(read(tmp_path, task, rows)[0], "50-50", 0.1, 0).report["duplicates"]["test"] > 5
    column = COLUMNS[task].get("choices", COLUMNS[task]["text"])[-1]
    rows.loc[100:, column] = rows.loc[100:, column].map(lambda text: text[1:] + text[:1])
    if task == "extractive-qa":
        rows.loc[100:, "answers"] = rows.loc[100:, "context"].map(lambda text: [{"text": text, "answer_start": 0}])
    assert cut(read(tmp_path, task, rows)[0], "50-50", 0.1, 0).report["duplicates"]["test"] == 0
