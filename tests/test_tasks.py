"""Tasks: losses, predictions and scores against values worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from peftstudy import baselines, tasks, tokens
from peftstudy.errors import StudyError
from peftstudy.tasks import extractive_qa, multiple_choice, token_classification

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
    assert task.metric in task.metrics and set(task.beside) <= set(task.metrics) - {task.metric}
    assert set(task.baselines) <= {*baselines.ANSWER, *baselines.BY_WORDS}


@pytest.mark.parametrize("name", [name for name, task in tasks.registered().items() if not task.writes])
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


def test_an_answer_that_is_no_class_is_wrong_and_no_class():
    """Of 872 answers one is stray: it costs its own class a little, and there is no third class."""
    targets = [0, 1] * 436
    scores = CLASSIFICATION.score([-1, *targets[1:]], targets, ["no", "yes"])
    assert scores["f1_macro"] == pytest.approx((2 * 435 / (2 * 435 + 1) + 1) / 2)
    assert scores["accuracy"] == 871 / 872
    assert CLASSIFICATION.score([-1, -1], [0, 1], ["no", "yes"])["f1_macro"] == 0


def test_one_answer_to_everything_scores_no_correlation():
    scores = CLASSIFICATION.score([1, 1, 1, 1], [1, 0, 1, 1], ["no", "yes"])
    assert scores["mcc"] == 0 and scores["accuracy"] == 0.75


@pytest.mark.parametrize(
    ("predicted", "targets", "expected"),
    [
        ([1, 1, 1], [1, 0, 1], True),
        ([1, 0, 1], [1, 0, 1], False),
        ([1, 1, 1], [1, 1, 1], False),
        ([1, 0, -1], [1, 0, 1], False),
        ([1, 1, -1], [1, 0, 1], False),
        ([-1, -1, -1], [1, 0, 1], True),
        ([1.0, 0.0, math.nan], [1, 0, 1], False),
        ([math.nan, float("nan"), math.nan], [1, 0, 1], True),
    ],
)
def test_collapsed(predicted, targets, expected):
    assert CLASSIFICATION.collapsed(predicted, targets) is expected


def test_regression_s_scores_are_those_worked_out_by_hand():
    task = tasks.create("regression")
    scores = task.score([1.0, 2.0, 4.0], [1.0, 3.0, 2.0], [])
    # Deviations from the means are -4/3, -1/3, 5/3 and -1, 1, 0; ranks 1, 2, 3 and 1, 3, 2.
    assert scores == pytest.approx({"pearson": 1 / (14 / 3 * 2) ** 0.5, "spearman": 0.5, "rmse": (5 / 3) ** 0.5})
    loss = task.loss_sum(torch.tensor([[1.0], [2.5]]), torch.tensor([0.0, 2.0]))
    assert loss.item() == 1.25


@pytest.mark.parametrize("predicted", [[2.0, 2.0, 2.0], [math.nan, 1.0, 2.0], [math.inf, 1.0, 2.0]])
def test_a_correlation_that_is_not_defined_is_none(predicted):
    task = tasks.create("regression")
    scores = task.score(predicted, [1.0, 2.0, 3.0], [])
    assert scores["pearson"] == scores["spearman"] == 0
    assert task.collapsed(predicted, [1.0, 2.0, 3.0]) == (predicted == [2.0, 2.0, 2.0])


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ([2.7, 2.7 + 1e-7, 2.7 + 2e-7, 2.7 + 3e-7], True),
        ([2.7, 2.71, 2.72, 2.73], False),
        ([math.nan] * 4, True),
        ([math.nan, 2.7, 2.7, 2.7], False),
    ],
)
def test_predictions_that_differ_by_rounding_are_one_answer(predicted, expected):
    """A body whose outputs died leaves the last bits of a sum, whose order may even be that of the labels."""
    task, targets = tasks.create("regression"), [0.0, 1.0, 2.0, 3.0]
    assert task.collapsed(predicted, targets) is expected
    assert (task.score(predicted, targets, [])["pearson"] == 0) == (expected or math.isnan(predicted[0]))


LABELS = ["B-loc", "B-per", "I-loc", "I-per", "O"]


@pytest.mark.parametrize(
    ("predicted", "precision", "recall", "accuracy"),
    [
        ([[1, 3, 4, 0]], 1, 1, 1),
        ([[1, 4, 4, 0]], 1 / 2, 1 / 2, 3 / 4),  # an end is wrong
        ([[0, 2, 4, 0]], 1 / 2, 1 / 2, 2 / 4),  # a type is wrong
        ([[1, 3, 4, -1]], 1, 1 / 2, 3 / 4),  # a word was not read
        ([[4, 4, 4, 4]], 0, 0, 1 / 4),
        ([[3, 3, 4, 2]], 1, 1, 2 / 4),  # entities may begin with I, as conlleval has it
    ],
)
def test_entities_count_whole(predicted, precision, recall, accuracy):
    scores = tasks.create("token-classification").score(predicted, [[1, 3, 4, 0]], LABELS)
    f1 = 2 * precision * recall / (precision + recall) if precision else 0
    expected = {"precision": precision, "recall": recall, "accuracy": accuracy, "f1": f1}
    assert scores == pytest.approx(expected)


def test_words_that_are_not_read_are_wrong_tags():
    scores = tasks.create("tagging").score([[0, 1], [-1]], [[0, 1], [0]], ["a", "b"])
    assert scores == pytest.approx({"accuracy": 2 / 3, "f1_macro": (2 / 3 + 1) / 2})


@pytest.mark.parametrize(
    ("predicted", "expected"), [([[1, 1], [1]], True), ([[1, 0], [1]], False), ([[-1, -1], [-1]], True)]
)
def test_one_label_for_all_words_is_a_collapse(predicted, expected):
    assert tasks.create("tagging").collapsed(predicted, [[1, 0], [1]]) is expected


def test_the_first_piece_of_each_word_carries_its_label(family, make_backbone):
    """Also of a word with a blank in it, with byte-level pieces, and where the text is cut within a word."""
    from transformers import AutoTokenizer

    words = ["the", "stonestone", "very old", "river", "redgreyquick"]
    table = pd.DataFrame({"text": [words], "label": [np.arange(5)]})
    tokenizer = AutoTokenizer.from_pretrained(make_backbone(family))
    found = tasks.create("tagging").encode(table, tokenizer, 40)
    opened = np.flatnonzero(found.arrays["opens"] >= 0)
    assert found.arrays["opens"][opened].tolist() == [0, 1, 2, 3, 4]
    pieces = tokenizer.convert_ids_to_tokens(found.input_ids[opened])
    for word, piece in zip(words, pieces, strict=True):
        assert word.startswith(piece.replace("Ġ", "").replace("##", ""))
    short = tasks.create("tagging").encode(table, tokenizer, len(found.input_ids) - 1)
    assert short.about["truncated_share"] == 1 and (short.arrays["opens"] >= 0).sum() >= 4
    tiny = tasks.create("tagging").encode(table, tokenizer, 4)
    logits = np.eye(5, dtype=np.float32)[tiny.labels[tiny.arrays["opens"][tiny.arrays["opens"] >= 0]]]
    predicted = tasks.create("tagging").predict(logits, tiny, np.array([0]))["predicted"].to_pylist()[0]
    assert predicted[0] == 0 and predicted[3:] == [-1, -1]


def test_choices_stand_behind_the_text_and_share_a_scorer():
    task = tasks.create("multiple-choice")
    logits = torch.tensor([[0.0], [math.log(3)], [0.0], [0.0]])
    loss = task.loss_sum(logits, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(-math.log(3 / 4) - math.log(1 / 2))
    answers = task.predict(logits.numpy(), labelled([1, 0]), np.arange(2))
    assert answers["predicted"].to_pylist() == [1, 0]
    plain = pd.DataFrame({"text": ["What is red?"], "choices": [["an apple", "a stone"]]})
    assert list(multiple_choice.pairs_of(plain)) == [("What is red?", "an apple"), ("What is red?", "a stone")]
    filled = plain.assign(text="The _ is red.", blank="_", choices=[["apple", "stone"]])
    assert list(multiple_choice.pairs_of(filled)) == [("The", "apple is red."), ("The", "stone is red.")]


@pytest.mark.parametrize(
    ("predicted", "answers", "exact_match", "f1"),
    [
        ("The Denver Broncos!", ["Denver Broncos"], 1, 1),
        ("Denver", ["Denver Broncos"], 0, 2 / 3),
        ("in 1967", ["1966", "January 15, 1967"], 0, 2 / 5),
        ("", ["Denver"], 0, 0),
    ],
)
def test_answers_are_compared_as_squad_does(predicted, answers, exact_match, f1):
    scores = tasks.create("extractive-qa").score([predicted], [answers], [])
    assert scores == pytest.approx({"exact_match": exact_match, "f1": f1})


def qa_tokens(family, make_backbone, contexts, answers, question="what is red", length=24):
    from transformers import AutoTokenizer

    rows = [
        [{"text": answer, "start": context.index(answer)}] for context, answer in zip(contexts, answers, strict=True)
    ]
    table = pd.DataFrame({"text": question, "text_pair": contexts, "label": rows})
    tokenizer = AutoTokenizer.from_pretrained(make_backbone(family))
    return tasks.create("extractive-qa").encode(table, tokenizer, length), tokenizer


def test_windows_overlap_and_hold_the_answer_where_all_of_it_is(family, make_backbone):
    words = [f"old stone {n}" for n in range(20)]
    context = " ".join([*words, "a juicy apple", *words])
    data, _ = qa_tokens(family, make_backbone, [context, "a red apple"], ["juicy apple", "red apple"])
    windows = np.diff(data.arrays["texts"])
    assert windows[0] > 3 and windows[1] == 1 and data.about["examples"] == 2
    holding = np.flatnonzero(data.labels[:, 1] > 0)
    assert len(holding) < len(data.labels), "a window without the answer points at the first token"
    for window in holding:
        start, end = data.offsets[window] + data.labels[window]
        first, last = data.arrays["characters"][[start, end]]
        text, answer = (context, "juicy apple") if window < windows[0] else ("a red apple", "red apple")
        assert text[first[0] : last[1]].strip() == answer
    # No character of the context is lost between windows.
    covered = np.zeros(len(context), bool)
    for begin, end in data.arrays["characters"][: data.offsets[windows[0]]]:
        covered[max(begin, 0) : max(end, 0)] = True
    assert all(covered[i] or letter == " " for i, letter in enumerate(context))


def test_an_answer_that_no_window_holds_and_a_cut_question_are_counted_as_cut(make_backbone):
    long = " ".join(["juicy apple"] * 20)
    data, _ = qa_tokens("bert", make_backbone, [f"old {long} stone", "a red apple"], [long, "red apple"])
    assert data.about["truncated_share"] == 0.5
    data, _ = qa_tokens("roberta", make_backbone, ["a red apple"], ["red apple"])
    assert data.about["truncated_share"] == 1, "its tokens are single letters, and the question has more than fit"


def test_the_answer_comes_from_the_best_window(family, make_backbone):
    context = " ".join(["old stone"] * 20 + ["juicy apple"] + ["grey river"] * 20)
    data, _ = qa_tokens(family, make_backbone, [context], ["juicy apple"])
    logits = np.random.default_rng(0).normal(size=(len(data.input_ids), 2)).astype(np.float32)
    logits[0] = 50  # the first token is no answer
    window = int(np.flatnonzero(data.labels[:, 1] > 0)[0])
    logits[data.offsets[window] + data.labels[window, 0], 0] = 9
    logits[data.offsets[window] + data.labels[window, 1], 1] = 9
    row = tasks.create("extractive-qa").predict(logits, data, np.array([0])).to_pylist()[0]
    assert row["predicted"].strip() == "juicy apple" and row["label"] == ["juicy apple"] and row["score"] == 18
    assert context[row["start"] :].strip().startswith("juicy")
    empty = tasks.create("extractive-qa").predict(logits * np.nan, data, np.array([0]))["predicted"].to_pylist()
    assert empty == [""]


@pytest.mark.parametrize(
    ("name", "predicted", "expected"),
    [
        ("extractive-qa", ["apple", ""], False),
        ("extractive-qa", ["", ""], True),
        ("extractive-qa", ["apple", "apple"], True),
        ("generation", ["apple", ""], False),
        ("generation", ["", "  "], True),
        ("generation", ["apple", "apple "], True),
    ],
)
def test_an_empty_text_is_one_answer_among_others(name, predicted, expected):
    assert tasks.create(name).collapsed(predicted, [["apple"], ["stone"]]) is expected


def test_spans_end_behind_their_start_and_are_short():
    characters = np.array([[-1, -1], *([i, i + 1] for i in range(50))], np.int32)
    scores = np.zeros((51, 2), np.float32)
    scores[9, 0], scores[5, 1], scores[48, 1], scores[12, 1] = 5, 9, 8, 3
    assert extractive_qa.best_span(scores, characters) == (9.0, 0, 5), "a start behind its end is none"
    scores[5, 1] = 0
    assert extractive_qa.best_span(scores, characters) == (8.0, 8, 12), "39 tokens are too many"


def test_losses_of_windows_are_softmaxes_of_their_own(make_backbone):
    data, _ = qa_tokens("bert", make_backbone, ["a red apple", "old " * 40 + "apple"], ["red apple", "apple"])
    task, index = tasks.create("extractive-qa"), np.array([0, 1])
    logits = torch.randn(len(data.input_ids), 2, generator=torch.Generator().manual_seed(0))
    found = task.loss_sum(logits, torch.from_numpy(task.targets(data, index)))
    expected = 0.0
    for window, labels in enumerate(data.labels):
        own = logits[data.offsets[window] : data.offsets[window + 1]].log_softmax(0)
        expected -= float(own[labels[0], 0] + own[labels[1], 1]) / 2
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert task.items(data, index) == len(data.labels) > 2


def test_a_long_question_is_cut_and_leaves_room_for_the_context(family, make_backbone):
    data, _ = qa_tokens(family, make_backbone, ["a red apple"], ["red apple"], question="which old stone " * 20)
    assert data.labels[0, 1] > 0 and data.lengths.max() <= 24


@pytest.mark.parametrize(
    ("name", "count"), [("classification", 3), ("multiple-choice", 3), ("tagging", None), ("extractive-qa", None)]
)
def test_a_loss_is_a_mean_over_what_the_field_counts(name, count, make_task_tokens):
    """Examples; words, of which long texts have more; windows, of which long contexts have several."""
    task, data = tasks.create(name), tokens.load(make_task_tokens(name, "bert"))
    index = np.array([0, 5, 6])
    if name == "tagging":
        count = int((data.arrays["opens"][tokens.joined(data.offsets, index)] >= 0).sum())
        assert count == sum(np.diff(data.arrays["words"])[index]), "no text is cut here"
    if name == "extractive-qa":
        count = int(np.diff(data.arrays["texts"])[index].sum())
        assert count > 3
    assert task.items(data, index) == count
    assert len(task.targets(data, index)) == count


def test_a_piece_may_begin_with_the_blank_before_its_word():
    """As byte-level tokenizers have it that do not trim offsets."""
    offsets = [(0, 0), (0, 2), (2, 3), (3, 6), (6, 9), (0, 0)]
    assert token_classification.first_pieces(["red", "stone"], offsets).tolist() == [-1, 0, -1, 1, -1, -1]
