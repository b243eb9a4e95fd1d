import dataclasses

import pandas as pd
import pytest

from peftstudy import files, metrics
from peftstudy.records import write_rows
from peftstudy.specs import RunSpec, Search, Training

SPEC = RunSpec("made", "90-10", "bert", "lora", 0, "classification", "lora", (("rank", 4),), Training(), Search())
TEST = {"metric": "accuracy", "scores": {"accuracy": 0.8, "f1_macro": 0.7, "mcc": 0.6}, "loss": 0.5,
        "is_collapsed": False, "curve": [0.7, 0.8], "test_examples": 10, "test_seconds": 0.1}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    provenance = {"commit": "abc", "dirty": False, "environment": "e", "inputs": {"tokens": "t", "backbone": "b"}}
    record = {
        "asked": SPEC.as_dict(), "status": "finished", "reason": None, "provenance": provenance,
        "measured": {"steps": 12, "validation_score": 0.9, "learning_rate": 1e-3},
    }  # fmt: skip
    files.write_json(tmp_path / "record.json", record)
    files.write_json(tmp_path / "test.json", TEST)
    rows = [{"epoch": epoch, "step": epoch * 6, "training_loss": 1 / epoch} for epoch in (1, 2)]
    write_rows(tmp_path / "history.csv", rows, ["epoch", "step", "training_loss"])
    return tmp_path


def test_a_finished_run_is_a_whole_row(folder):
    row = metrics.run_row(SPEC, folder)
    assert row["status"] == "finished"
    assert (row["test_score"], row["test_mcc"], row["validation_score"], row["steps"]) == (0.8, 0.6, 0.9, 12)
    assert set(row) <= set(metrics.COLUMNS["runs"])


def test_a_row_has_the_signatures_of_metrics_that_can_be_computed_in_several_ways(folder):
    assert "signatures" not in metrics.run_row(SPEC, folder)
    files.write_json(folder / "test.json", TEST | {"signatures": {"bleu": "nrefs:1|tok:13a"}})
    assert metrics.run_row(SPEC, folder)["signatures"] == '{"bleu": "nrefs:1|tok:13a"}'


def test_the_history_carries_the_test_curve(folder):
    rows = list(metrics.epoch_rows(SPEC, folder))
    assert [row["test_score"] for row in rows] == [0.7, 0.8]
    assert [row["training_loss"] for row in rows] == ["1.0", "0.5"]


def test_a_record_of_another_request_is_missing(folder):
    other = dataclasses.replace(SPEC, options=(("rank", 8),))
    assert metrics.run_row(other, folder)["reason"] == "the record is of another request"
    assert list(metrics.epoch_rows(other, folder)) == []


def test_a_record_of_before_a_setting_existed_counts_with_its_default(folder):
    record = files.read_json(folder / "record.json")
    del record["asked"]["training"]["dropout_in_frozen_body"]
    files.write_json(folder / "record.json", record)
    assert metrics.run_row(SPEC, folder)["status"] == "finished"
    del record["asked"]["training"]["engine"]  # there was one then
    files.write_json(folder / "record.json", record)
    assert metrics.run_row(SPEC, folder)["status"] == "missing"
    plain = dataclasses.replace(SPEC, training=dataclasses.replace(SPEC.training, engine="plain"))
    assert metrics.run_row(plain, folder)["status"] == "finished"
    record["asked"]["training"]["from_the_future"] = 1
    files.write_json(folder / "record.json", record)
    assert metrics.run_row(plain, folder)["reason"] == "the record is of another request"


def test_missing_and_failed_runs_keep_their_row(folder):
    assert metrics.run_row(SPEC, folder / "none")["status"] == "missing"
    (folder / "test.json").unlink()
    assert metrics.run_row(SPEC, folder)["reason"] == "not evaluated"
    record = files.read_json(folder / "record.json") | {"status": "failed", "reason": "no memory", "measured": {}}
    files.write_json(folder / "record.json", record)
    row = metrics.run_row(SPEC, folder)
    assert (row["status"], row["reason"], row.get("test_score")) == ("failed", "no memory", None)


def test_cells_without_a_value_are_empty(tmp_path):
    rows = [{"a": None, "b": float("nan"), "c": True, "d": 0.5}]
    write_rows(tmp_path / "t.csv", rows, "abcd")
    assert (tmp_path / "t.csv").read_text() == "a,b,c,d\n,,true,0.5\n"
    assert pd.read_csv(tmp_path / "t.csv")["a"].isna().all()
