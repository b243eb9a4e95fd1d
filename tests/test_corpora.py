import subprocess
import sys
import tracemalloc

import pandas as pd
import pytest
from transformers import AutoTokenizer

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


def test_words_of_a_definition_keep_its_text_out_by_its_id(tmp_path):
    """They are no text that could be compared; and what is empty is no text that is kept out."""
    own = table(tmp_path / "a.parquet", id=["p/a", "p/b", "p/c"], docstring=["one two.", "three four.", None])
    other = table(tmp_path / "b.parquet", id=["1", "2"], body=["p/a", "five"])
    words = table(tmp_path / "examples.parquet", id=["p/a"], text=[["one", "two", "."]])
    exclusions = [(words, "text", "words"), (words, "id", "id")]
    texts, left_out = corpora.read_corpus([own, other], ["docstring", "body"], exclusions)
    assert texts == ["three four.", "p/a", "five"] and left_out == {"empty": 1, "repeated": 0, "excluded": 1}


def test_ids_with_spaces_are_compared_whole(tmp_path):
    own = table(tmp_path / "a.parquet", id=["my doc 1", "my doc 2", "x"], text=["one", "two", "three"])
    out = table(tmp_path / "b.parquet", id=["my doc 1"])
    assert corpora.read_corpus([own], ["text"], [(out, "id", "id")])[0] == ["two", "three"]


def test_all_definitions_that_an_example_shows_stay_out(tmp_path):
    own = table(tmp_path / "a.parquet", id=["p/a", "p/b", "p/c"], docstring=["one two.", "three four.", "five"])
    shown = table(tmp_path / "examples.parquet", group=["p/a p/b", "p/b p/a"])
    texts, _ = corpora.read_corpus([own], ["docstring"], [(shown, "group", "id")])
    assert texts == ["five"]


def test_an_unknown_column_and_an_empty_corpus_are_named(tmp_path):
    path = table(tmp_path / "a.parquet", text=[" "])
    with pytest.raises(StudyError, match=r"no column 'body' for pre-training \(known: text\)"):
        corpora.read_corpus([path], ["body"], [])
    with pytest.raises(StudyError, match="no text is left"):
        corpora.read_corpus([path], ["text"], [])


def test_blocks_hold_the_corpus_in_order(bert):
    tokenizer = AutoTokenizer.from_pretrained(bert)
    marks = corpora.frame("bert", tokenizer)
    found = corpora.blocks(["the old stone", "a new river was here"] * 5, tokenizer, marks, 8, None)
    assert found.shape[1] == 8
    assert (found[:, 0] == tokenizer.cls_token_id).all() and (found[:, -1] == tokenizer.sep_token_id).all()
    stream = found[:, 1:-1].ravel()
    expected = [*tokenizer("the old stone", add_special_tokens=False)["input_ids"], tokenizer.sep_token_id]
    assert stream[: len(expected)].tolist() == expected
    assert len(corpora.blocks(["the old stone"] * 9, tokenizer, marks, 8, 12)) == 2


def test_a_corpus_of_many_tokens_takes_a_few_bytes_for_each(bert, monkeypatch):
    tokenizer, texts = AutoTokenizer.from_pretrained(bert), 20 * ["long"]
    marks = corpora.frame("bert", tokenizer)
    monkeypatch.setattr(corpora, "_encoded", lambda texts, _: (list(range(10**4, 2 * 10**4)) for _ in texts))
    tracemalloc.start()
    found = corpora.blocks(texts, tokenizer, marks, 128, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / found.size < 20


def test_a_vocabulary_larger_than_the_text_is_refused():
    with pytest.raises(StudyError, match=r"5000 asked, but the corpus has text for \d+"):
        corpora.train_tokenizer("bert", ["a few words"] * 3, 5000, 64)


def test_a_vocabulary_without_room_for_bytes_is_refused():
    with pytest.raises(StudyError, match="300 asked, but bytes and marks alone are 359; ask for more"):
        corpora.train_tokenizer("t5", ["a few words"] * 3, 300, 64)


@pytest.mark.parametrize(
    ("family", "size", "one", "two"),
    [
        ("gpt2", 259, "a b", "a bc"),
        ("llama", 261, "<s>a b", "<s>a b<s>c"),
        ("t5", 361, "a b</s>", "a b</s>c</s>"),
        ("bart", 263, "<s>a b</s>", "<s>a b</s></s>c</s>"),
    ],
)
def test_writers_mark_texts_and_blocks_as_their_families_do(family, size, one, two, tmp_path):
    from transformers import AutoTokenizer

    corpora.train_tokenizer(family, ["a b c"] * 9, size, 64).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.decode(tokenizer("a b")["input_ids"]) == one
    assert tokenizer.decode(tokenizer("a b", "c")["input_ids"]) == two
    assert all(tokenizer.convert_tokens_to_ids(tokenizer.tokenize(mark)) for mark in corpora.MARKS[family].more)
    rows = corpora.blocks(["a b", "c"] * 4, tokenizer, corpora.frame(family, tokenizer), 12, None)
    expected = {
        "gpt2": "a b<|endoftext|>c<|endoftext|>", "llama": "<s>a b</s><s>c</s>", "t5": "a b</s>c</s>",
        "bart": "<s>a b</s>c</s>",
    }  # fmt: skip
    assert tokenizer.decode(rows[0]).startswith(expected[family])


DIGEST = """
import hashlib
from peftstudy import corpora
texts = [f"the {a}{b} of {b}{a} is \u00e9{a} {c}" for a in "abcdefgh" for b in "stuvw" for c in ("\u4e00", "x")]
for family, size in (("bert", 60), ("roberta", 280), ("t5", 400)):
    tokenizer = corpora.train_tokenizer(family, texts, size, 64)
    print(hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest())
"""


def test_the_same_texts_give_the_same_tokenizer_in_every_process():
    command = [sys.executable, "-c", DIGEST]
    said = {subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout for _ in "12"}
    assert len(said) == 1
    assert len(said.pop().split()) == 3
