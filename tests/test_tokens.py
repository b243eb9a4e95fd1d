import os
import shutil
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import made_tasks
import numpy as np
import pandas as pd
import pytest
from conftest import LIBRARIES
from transformers import AutoTokenizer

from peftstudy import examples, files, tokens
from peftstudy.errors import StudyError


def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def test_tokens_are_those_of_the_library(family, make_backbone, make_tokens, texts):
    ours = tokens.load(make_tokens(family))
    index = np.array([3, 0, 7])
    theirs = tokenizer(make_backbone(family))(
        texts["text"].iloc[index].tolist(), truncation=True, max_length=24, padding=True, return_tensors="np"
    )
    batch = ours.batch(index)
    assert np.array_equal(batch["input_ids"], theirs["input_ids"])
    assert np.array_equal(batch["attention_mask"], theirs["attention_mask"])
    assert not batch["token_type_ids"].any()
    special = tokenizer(make_backbone(family))
    lengths = batch["attention_mask"].sum(1)
    assert (batch["input_ids"][:, 0] == special.cls_token_id).all()
    assert (batch["input_ids"][np.arange(3), lengths - 1] == special.sep_token_id).all()


def test_many_tokens_take_a_few_bytes_each(bert):
    def encodings():
        for _ in range(100):
            yield SimpleNamespace(ids=list(range(1000, 3000)), type_ids=[0] * 2000, overflowing=[])

    tracemalloc.start()
    found = tokens.gather(encodings(), tokenizer(bert), 2000, np.zeros(100, np.int32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.input_ids.dtype == np.uint16 and found.input_ids[1999:2001].tolist() == [2999, 1000]
    assert peak / len(found.input_ids) < 10


@pytest.mark.parametrize("family", ["bart", "roberta"])
def test_what_looks_like_a_mark_within_a_text_is_text(family, make_backbone):
    """BART and T5 want as many ends in each text of a batch."""
    own = tokenizer(make_backbone(family))
    frame = pd.DataFrame({"text": ["stone", "stone </s> river"], "label": np.array([0, 1], np.int32)})
    found = tokens.encode(frame, own, 24)
    assert [
        (found.input_ids[a:b] == own.eos_token_id).sum() for a, b in zip(found.offsets, found.offsets[1:], strict=False)
    ] == [1, 1]
    assert own.decode(found.input_ids[found.offsets[1] : found.offsets[2]], skip_special_tokens=True).split() == [
        "stone",
        "</s>",
        "river",
    ]


def test_arrays_are_mapped_and_small(make_tokens):
    found = tokens.load(make_tokens("bert"))
    assert isinstance(found.input_ids, np.memmap)
    assert found.input_ids.dtype == np.uint16
    assert found.about["examples"] == len(found.labels) == 240
    assert found.about["labels"] == ["apple", "stone", "river"]


def test_long_texts_are_cut_and_counted(bert):
    table = pd.DataFrame({"text": ["the old stone", "very " * 50], "label": [0, 1]})
    found = tokens.encode(table, tokenizer(bert), 16)
    assert found.lengths.max() == 16
    assert found.about["truncated_share"] == 0.5
    assert found.input_ids[found.offsets[2] - 1] == tokenizer(bert).sep_token_id


def test_pairs_are_marked_where_the_backbone_tells_them_apart(make_backbone):
    table = pd.DataFrame({"text": ["the old stone"], "text_pair": ["a new river"], "label": [0]})
    for family, marked in (("bert", True), ("roberta", False), ("distilbert", False), ("electra", True)):
        plain = tokenizer(make_backbone(family))
        found = tokens.encode(table, plain, 32)
        batch = found.batch(np.array([0]))
        assert batch["input_ids"][0].tolist() == plain("the old stone", "a new river")["input_ids"]
        assert bool(batch["token_type_ids"].any()) == marked
        if marked:
            assert batch["token_type_ids"][0].tolist() == plain("the old stone", "a new river")["token_type_ids"]


def test_the_same_input_gives_the_same_bytes(bert, make_tokens, tmp_path):
    again = tmp_path / "again"
    tokens.write(make_tokens("bert").parent / "examples.parquet", bert, 24, again)
    for path in make_tokens("bert").iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_stage_gives_them_where_importing_torch_is_an_error(family, make_backbone, make_tokens, tmp_path):
    made = make_tokens(family)
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch was imported')\n")
    command = [sys.executable, "-m", "peftstudy", "tokenize", "--max-length", "24", "--output", tmp_path / "made"]
    command += ["--examples", made.parent / "examples.parquet", "--backbone", make_backbone(family)]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for one in made.iterdir():
        assert one.read_bytes() == (tmp_path / "made" / one.name).read_bytes(), one.name


def test_what_classes_are_called_is_part_of_what_tokens_are_known_by(bert, make_tokens, tmp_path):
    source, found = make_tokens("bert").parent / "examples.parquet", {}
    shutil.copy(source, tmp_path / "examples.parquet")
    for names in ([], ["a", "b", "c"], ["a", "b", "d"]):
        described = {"task": "classification", "labels": names or list(LIBRARIES)} | ({"names": names} if names else {})
        files.write_json(tmp_path / "examples.json", described)
        tokens.write(tmp_path / "examples.parquet", bert, 24, tmp_path / "made")
        found[tuple(names)] = tokens.load(tmp_path / "made").about["sha256"]
    assert len(set(found.values())) == 3
    assert found[()] == tokens.load(make_tokens("bert")).about["sha256"]


def test_how_texts_are_written_and_what_labels_say_are_part_of_it(make_backbone, tmp_path):
    table = made_tasks.write_table(tmp_path, made_tasks.table())
    for task, family, changes in (
        ("generation", "gpt2", [{}, {"beams": 2}, {"target_length": 40}]),
        ("token-classification", "bert", [{}, {"labels": ["O", "B-a", "B-b"]}]),
    ):
        found, report = examples.read_examples(made_tasks.dataset(task), table, 0)
        examples.write_examples(found, report, tmp_path / task)
        about = files.read_json(tmp_path / task / "examples.json")
        known = set()
        for change in changes:
            labels = change.pop("labels", about["labels"])[: len(about["labels"])]
            options = {"options": about["options"] | change} if change else {}
            files.write_json(tmp_path / task / "examples.json", about | {"labels": labels} | options)
            tokens.write(tmp_path / task / "examples.parquet", make_backbone(family), 24, tmp_path / "made")
            known.add(tokens.load(tmp_path / "made").about["sha256"])
        assert len(known) == len(changes), task


def test_a_cut_array_is_named(make_tokens, tmp_path):
    for path in make_tokens("bert").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    broken = tmp_path / "input_ids.npy"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(StudyError, match=r"input_ids\.npy: damaged"):
        tokens.load(tmp_path)
