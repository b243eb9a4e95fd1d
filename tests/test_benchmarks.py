"""The benchmarks as commands, on next to nothing: they run, and print a table with a number in each cell."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT, made_texts


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    rows = made_texts(400)[["text", "label"]].to_dict("records")
    (folder / "texts.jsonl").write_text("\n".join(json.dumps(row | {"label": row["label"] % 2}) for row in rows))
    return folder


def table(made, script, *words):
    """Run a benchmark; return the cells of its table, header left out."""
    command = [sys.executable, ROOT / "benchmarks" / script, "--texts", made / "texts.jsonl", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=made)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    return rows[2:]


def test_steps_and_equality(made):
    words = ("--output", made, "--backbones", "tiny", "--lengths", 16, "--methods", "lora", "--rounds", 1)
    [row] = table(made, "steps.py", *words, "--examples", 64)
    assert row[:3] == ["tiny", "16", "lora"] and all(row)
    words = ("--backbone", made / "backbones/tiny", "--methods", "full", "--examples", 80, "--epochs", 1)
    [row] = table(made, "equality.py", *words)
    assert row[0] == "full" and 0 < float(row[1]) < 2


def test_what_an_unchanged_checkout_measured_is_not_measured_again(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import steps

    rows = [{"method": "full", "code": "c0ffee", "dirty": dirty, "train": 1} for dirty in (True, None, False)]
    for dirty, expected in ((False, rows[2]), (True, None), (None, None)):
        assert steps.measured_before({"method": "full", "code": "c0ffee", "dirty": dirty}, rows) == expected
    assert steps.measured_before({"method": "full", "code": "decade", "dirty": False}, rows) is None


def test_operations(made):
    words = ("--output", made, "--backbones", "tiny", "--lengths", 16, "--examples", 64, "--methods", "full")
    [row] = table(made, "operations.py", *words)
    assert all(float(ratio.strip("*")) > 1 for ratio in (row[5], row[8]))


def test_memory(made):
    words = ("--output", made, "--backbones", "tiny", "--lengths", 16, "--methods", "full", "lora")
    full, lora = ([float(cell.replace(",", "")) for cell in row[3:]] for row in table(made, "memory.py", *words))
    assert full[0] > lora[0]
    weights, gradients, moments, *peaks = full[1:]
    assert moments == pytest.approx(2 * gradients, abs=0.11) and all(peak > weights + moments for peak in peaks)


def test_the_whole_study(made):
    words = ("--output", made / "study", "--backbones", "tiny", "--methods", "full", "--seeds", 1, "--epochs", 1)
    [row] = table(made, "study.py", *words, "--splits", "90-10", "--length", 16, "--examples", 100)
    assert float(row[2].strip("* ")) > 0


def test_tasks(tmp_path):
    """Bold above all baselines, in italics not even above the trivial one; of a cell that is missing, nothing."""
    tables = {
        "metrics/runs.csv": ["dataset,task", "news,classification", "pairs,regression"],
        "metrics/baselines.csv": [
            "dataset,split,baseline,test_score",
            *("news,90-10,majority,0.25", "news,90-10,words,0.8", "pairs,90-10,mean,", "pairs,90-10,words,0.1"),
        ],
        "statistics/scores.csv": [
            "dataset,split,backbone,method,metric,finished,test_score,low,high",
            "news,90-10,small,full,accuracy,3,0.9,0.85,0.95",
            "news,90-10,small,lora,accuracy,3,0.8,0.7,0.9",
            "pairs,90-10,small,full,pearson,3,0.1,-0.1,0.3",
        ],
    }
    for name, lines in tables.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("\n".join(lines))
    done = subprocess.run([sys.executable, ROOT / "benchmarks/tasks.py", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]] == [
        ["news, 90-10", "classification", "small", "accuracy", "3", "majority 0.25; words 0.80",
         "**0.900 [0.850, 0.950]**", "0.800 [0.700, 0.900]"],
        ["pairs, 90-10", "regression", "small", "pearson", "3", "mean 0.00; words 0.10", "*0.100 [-0.100, 0.300]*"],
    ]  # fmt: skip


def test_scale():
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "scale.py", "50"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cells = done.stdout.splitlines()[-1].strip("| ").split(" | ")
    assert cells[:2] == ["50", "3"] and all(cell.endswith(" MiB") for cell in cells[2:]) and len(cells) == 7
