import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from peftstudy import corpora
from peftstudy.errors import StudyError


def table(path, **columns):
    pd.DataFrame(columns).to_parquet(path)
    return path


def test_texts_of_examples_stay_out_of_the_corpus(tmp_path):
    own = table(tmp_path / "a.parquet", summary=["one two", "three", "four"], whole=["long one", "long three", ""])
    other = table(tmp_path / "b.parquet", body=["three\n ", "five", "five"])
    examples = table(tmp_path / "examples.parquet", text=["three", "one  two"])
    texts, left_out = corpora.read_corpus([own, other], ["whole", "body"], [(examples, "text", "summary")])
    assert texts == ["five"]
    assert left_out == {"empty": 1, "repeated": 1, "excluded": 3}


def test_an_unknown_column_and_an_empty_corpus_are_named(tmp_path):
    path = table(tmp_path / "a.parquet", text=[" "])
    with pytest.raises(StudyError, match=r"no column 'body' for pre-training \(known: text\)"):
        corpora.read_corpus([path], ["body"], [])
    with pytest.raises(StudyError, match="no text is left"):
        corpora.read_corpus([path], ["text"], [])


def test_blocks_hold_the_corpus_in_order(bert):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bert)
    found = corpora.blocks(["the old stone", "a new river was here"] * 5, tokenizer, 8, None)
    assert found.shape[1] == 8
    assert (found[:, 0] == tokenizer.cls_token_id).all() and (found[:, -1] == tokenizer.sep_token_id).all()
    stream = found[:, 1:-1].ravel()
    expected = [*tokenizer("the old stone", add_special_tokens=False)["input_ids"], tokenizer.sep_token_id]
    assert stream[: len(expected)].tolist() == expected
    assert len(corpora.blocks(["the old stone"] * 9, tokenizer, 8, 12)) == 2


def test_masking_follows_the_published_shares():
    special = {"cls": 0, "sep": 1, "pad": 2, "mask": 3}
    ids = np.random.default_rng(0).integers(4, 1000, (400, 64))
    ids[:, 0], ids[:, -1] = 0, 1
    hidden, chosen = corpora.mask_tokens(ids, np.random.default_rng(1), special, 1000)
    assert not chosen[:, [0, -1]].any()
    assert np.array_equal(hidden[~chosen], ids[~chosen])
    assert abs(chosen[:, 1:-1].mean() - 0.15) < 0.01
    shares = [(hidden[chosen] == 3).mean(), (hidden[chosen] == ids[chosen]).mean()]
    assert np.allclose(shares, [0.8, 0.1], atol=0.02)


def test_a_vocabulary_larger_than_the_text_is_refused():
    with pytest.raises(StudyError, match=r"5000 asked, but the corpus has text for \d+"):
        corpora.train_tokenizer("bert", ["a few words"] * 3, 5000, 64)


DIGEST = """
import hashlib
from peftstudy import corpora
texts = [f"the {a}{b} of {b}{a} is \u00e9{a} {c}" for a in "abcdefgh" for b in "stuvw" for c in ("\u4e00", "x")]
for family, size in (("bert", 60), ("roberta", 280)):
    tokenizer = corpora.train_tokenizer(family, texts, size, 64)
    print(hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest())
"""


def test_the_same_texts_give_the_same_tokenizer_in_every_process():
    command = [sys.executable, "-c", DIGEST]
    said = {subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout for _ in "12"}
    assert len(said) == 1
    assert len(said.pop().split()) == 2
