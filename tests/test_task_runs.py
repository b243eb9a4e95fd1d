"""A run of every task, from its tokens to the row of its metrics and the archive's predictions."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from peftstudy import archive, baselines, building, evaluation, files, metrics, runs, tasks, tokens
from peftstudy.records import write_rows
from peftstudy.specs import RunSpec, Search, Training
from peftstudy.splits import PARTS, cut, write_split

BUDGET = Training(epochs=6, batch_size=16, learning_rate=1e-2)


def spec(task):
    return RunSpec("made", "90-10", "bert", "full", 0, task, "full", (), BUDGET, Search())


@pytest.fixture(scope="module")
def finished(bert, make_backbone, make_task_tokens, tmp_path_factory):
    """Train and score a run of every task; return for each its folder, its split and its examples."""
    found, gpt2 = {}, make_backbone("gpt2")
    for task in tasks.registered():
        writes = tasks.create(task).writes
        data, backbone = make_task_tokens(task, "gpt2" if writes else "bert"), gpt2 if writes else bert
        examples = pd.read_parquet(data.parent / "examples.parquet")
        split, folder = cut(examples, "50-50", 0.1, 0), tmp_path_factory.mktemp(task)
        write_split(split, folder, data.parent / "examples.parquet")
        inputs = building.Inputs(data, backbone, folder / "state", folder / "runs", torch.device("cpu"))
        [record] = runs.train_pack([spec(task)], inputs, folder / "train.npy", folder / "validation.npy")
        assert record["status"] == "finished", record["reason"]
        evaluation.evaluate_pack([spec(task)], inputs, folder / "test.npy")
        found[task] = folder, split, examples, data
    return found


@pytest.mark.parametrize("name", tasks.registered())
def test_predictions_hold_what_scores_are_made_of(name, finished):
    folder, split, examples, data = finished[name]
    task, place = tasks.create(name), folder / "runs" / spec(name).path
    predictions = pd.read_parquet(place / "predictions.parquet")
    assert predictions.columns[:3].tolist() == ["example", "label", "predicted"]
    assert np.array_equal(predictions["example"], split.test)
    asked = task.answers(examples.iloc[split.test])
    same = [np.allclose(a, b) if name == "regression" else np.array_equal(a, b)
            for a, b in zip(predictions["label"], asked, strict=True)]  # fmt: skip
    assert all(same)
    result = files.read_json(place / "test.json")
    labels = tokens.load(data).about["labels"]
    assert result["scores"] == pytest.approx(task.score(predictions["predicted"].tolist(), asked, labels))
    assert result["metric"] == task.metric and set(result["scores"]) <= set(task.metrics)


@pytest.mark.parametrize("name", tasks.registered())
def test_a_row_of_metrics_has_every_score(name, finished):
    folder = finished[name][0]
    row = metrics.run_row(spec(name), folder / "runs" / spec(name).path)
    write_rows(folder / "runs.csv", [row], metrics.COLUMNS["runs"])
    [written] = metrics.read_rows(folder / "runs.csv")
    scores = files.read_json(folder / "runs" / spec(name).path / "test.json")["scores"]
    assert {key: float(written[f"test_{key}"]) for key in scores} == scores
    assert written["task"] == name and float(written["test_score"]) == scores[written["metric"]]


@pytest.mark.parametrize("name", tasks.registered())
def test_every_baseline_answers_in_the_task_s_form(name, finished):
    _, split, examples, data = finished[name]
    task, parts = tasks.create(name), {part: getattr(split, part) for part in PARTS}
    labels = tokens.load(data).about["labels"]
    rows = baselines.score_baselines(examples, parts, task, labels)
    assert [row["baseline"] for row in rows] == list(task.baselines)
    for row in rows:
        assert row["test_score"] == row[f"test_{task.metric}"] and -1 <= row["test_score"] <= 1
        assert set(row) <= {"baseline", "test_score", *metrics.SCORES}


def test_predictions_of_several_tasks_are_archived_apart(finished, tmp_path):
    asked = [replace(spec(task), dataset=task) for task in ("classification", "regression", "extractive-qa")]
    for one in asked:
        shutil.copytree(finished[one.task][0] / "runs" / spec(one.task).path, tmp_path / "runs" / one.path)
    found = archive.predictions(asked, tmp_path)
    assert set(found) == {f"predictions-{one.task}" for one in asked}
    assert found["predictions-extractive-qa"].column_names[:3] == ["run", "example", "label"]
    whole = archive.predictions(asked[:1], tmp_path)["predictions"]
    # A run that failed has no answers, whatever the others have.
    failed = replace(asked[0], seed=1)
    (tmp_path / "runs" / failed.path).mkdir()
    path = tmp_path / "runs" / failed.path / "predictions.parquet"
    evaluation.write_predictions(path, np.zeros(0, np.int32), evaluation.NO_ANSWERS)
    assert archive.predictions([asked[0], failed], tmp_path)["predictions"].equals(whole)
