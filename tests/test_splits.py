"""Examples and splits: disjoint, nested, stratified, the same each time, without copies across parts."""

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from peftstudy import splits, stages
from peftstudy.drawing import stratified_order
from peftstudy.errors import StudyError
from peftstudy.examples import borrow, read_examples, write_examples
from peftstudy.files import sha256
from peftstudy.sources import read_source, write_table
from peftstudy.specs import Dataset, Source, freeze
from peftstudy.splits import cut, write_split

SHARED = Path(os.environ.get("PEFTSTUDY_SHARED", Path(__file__).parents[2] / "shared"))
NAMES = ("90-10", "30-70", "50-50", "size-200", "size-400", "official")


def make(counts=(500, 300, 150, 50), texts=None, parts=None):
    """Return examples with so many of each class, in mixed order."""
    classes = np.random.default_rng(3).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    number = np.arange(len(classes))
    columns = {"id": number.astype(str), "text": texts or [f"text {n}" for n in number], "label": classes}
    return pd.DataFrame(columns | {"part": parts or np.where(number % 4, "train", "test")})


def dataset(**changes):
    settings = {"name": "d", "source": "s", "task": "classification", "text": ("text",), "label": "label"}
    return Dataset(**(settings | changes))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("counts", [(500, 500), (900, 70, 20, 10), (1, 1, 1, 997), (100,) * 10, (7,)])
def test_every_beginning_of_the_order_is_stratified_within_one(counts, seed):
    classes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    order = stratified_order(classes, np.random.default_rng(seed))
    assert sorted(order) == list(range(sum(counts)))
    running = np.cumsum(classes[order][:, None] == np.arange(len(counts)), axis=0)
    expected = np.arange(1, sum(counts) + 1)[:, None] * np.array(counts) / sum(counts)
    assert np.abs(running - expected).max() < 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_parts_are_disjoint_and_stratified(name, seed):
    examples = make()
    split = cut(examples, name, 0.1, seed)
    parts = [split.train, split.validation, split.test]
    assert len(set(np.concatenate(parts))) == sum(map(len, parts)) and all(part.dtype == np.int32 for part in parts)
    of = examples["label"].to_numpy()
    learn = np.concatenate(parts[:2])
    whole = examples["part"] == "train" if name == "official" else np.ones(len(examples), bool)
    share = np.bincount(of[whole], minlength=4) / whole.sum()
    assert np.abs(np.bincount(of[learn], minlength=4) - share * len(learn)).max() < 1
    kept = np.bincount(of[split.validation], minlength=4) - 0.1 * np.bincount(of[learn], minlength=4)
    assert np.abs(kept).max() < 1
    assert abs(len(split.validation) - 0.1 * len(learn)) < 3


@pytest.mark.parametrize("name", ["90-10", "30-70", "75-25"])
def test_a_ratio_is_kept(name):
    split = cut(make(), name, 0.2, 0)
    share = int(name[:2])
    assert len(split.train) + len(split.validation) == 10 * share and len(split.test) == 10 * (100 - share)


@pytest.mark.parametrize("seed", range(3))
def test_smaller_training_parts_lie_within_larger_ones(seed):
    chain = [
        cut(make(), name, 0.1, seed)
        for name in ("size-100", "size-250", "30-70", "37-63", "64-36", "size-777", "90-10")
    ]
    for small, large in pairwise(chain):
        assert set(small.train) < set(large.train) and set(small.validation) < set(large.validation)
    assert len(chain[1].train) + len(chain[1].validation) == 250
    assert np.array_equal(chain[0].test, chain[-1].test)


def test_the_data_seed_decides_and_nothing_else():
    first = cut(make(), "90-10", 0.1, 0)
    np.random.seed(5)
    again, other = cut(make(), "90-10", 0.1, 0), cut(make(), "90-10", 0.1, 1)
    assert np.array_equal(first.train, again.train) and np.array_equal(first.test, again.test)
    assert set(first.test) != set(other.test)


def test_copies_are_kept_out_of_test_and_validation():
    # Every text stands twice, with other white space; the second copies of a few say another label.
    texts = [f"the  same\ttext {n // 2}" if n % 2 else f" the same text {n // 2}\n" for n in range(1000)]
    parts = ["test" if n % 8 < 3 else "train" for n in range(1000)]
    examples = make(texts=texts, parts=parts)
    keys = np.arange(1000) // 2
    for name in NAMES:
        split = cut(examples, name, 0.1, 0)
        train, validation, test = (set(keys[part]) for part in (split.train, split.validation, split.test))
        assert not train & test and not validation & test and not train & validation
        whole = cut(make(parts=parts), name, 0.1, 0)
        assert split.report["duplicates_removed"]["test"] == len(whole.test) - len(split.test) > 0
        assert split.report["duplicates_removed"]["validation"] > 0
    of = examples["label"].to_numpy()
    split, unique = cut(examples, "90-10", 0.1, 0), cut(make(), "90-10", 0.1, 0)
    gone = [n for part in ("test", "validation") for n in set(getattr(unique, part)) - set(getattr(split, part))]
    assert split.report["duplicates"]["conflicting_labels"] == sum(of[n] != of[n ^ 1] for n in gone) > 0


def test_pairs_are_copies_only_when_both_texts_are():
    examples = make(texts=["one premise"] * 1000)
    examples["text_pair"] = [f"hypothesis {n}" for n in range(1000)]
    assert cut(examples, "90-10", 0.1, 0).report["duplicates_removed"] == {"train": 0, "validation": 0, "test": 0}
    examples["text_pair"] = [f"hypothesis  {n // 2}" if n % 2 else f"hypothesis {n // 2}" for n in range(1000)]
    assert cut(examples, "90-10", 0.1, 0).report["duplicates_removed"]["test"] > 50


def test_an_official_validation_part_is_used_whole():
    parts = ["train"] * 600 + ["dev"] * 200 + ["test"] * 200
    split = cut(make(parts=parts), "official", 0.1, 0)
    assert set(split.train) == set(range(600)) and set(split.validation) == set(range(600, 800))


@pytest.mark.parametrize("parts", [None, ["train"] * 600 + ["dev"] * 200 + ["test"] * 200])
def test_a_share_of_the_official_training_part_lies_within_it(parts):
    whole = cut(make(parts=parts), "official", 0.1, 0)
    smaller = None
    for name, share in (("official-10", 0.1), ("official-30", 0.3), ("official-70", 0.7)):
        split = cut(make(parts=parts), name, 0.1, 0)
        assert split.test.tolist() == whole.test.tolist()
        for part in ("train", "validation"):
            own = getattr(split, part).tolist()
            assert own == getattr(whole, part).tolist()[: len(own)]
            assert len(own) == round(share * len(getattr(whole, part)))
            assert smaller is None or set(getattr(smaller, part)) < set(own)
        smaller = split


@pytest.mark.parametrize("name", ["90-10", "30-70", "official", "official-50"])
def test_examples_that_are_alike_stay_together_and_are_tested_once(name):
    number = np.arange(1000)
    examples = make(texts=[f"text {n // 4}" for n in number], parts=np.where(number // 4 % 4, "train", "test").tolist())
    examples = examples.assign(alike=(number // 4).astype(np.int32), stratum=np.int32(0))
    split = cut(examples, name, 0.1, 0)
    train, validation, test = (set(part // 4) for part in (split.train, split.validation, split.test))
    assert not train & validation and not train & test and not validation & test
    assert len(split.test) == len(test) > 20 and len(split.validation) == len(validation) > 5
    if name == "90-10":
        assert len(split.train) == 4 * len(train), "every one is learned from"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "share"), [("90-10", 0.9), ("30-70", 0.3)])
def test_shares_are_of_examples_also_where_groups_differ_in_size(name, share, seed):
    sizes = np.random.default_rng(seed).geometric(0.03, 200)
    groups = np.repeat(np.arange(200), sizes).astype(str)
    examples = make((len(groups) // 2, len(groups) - len(groups) // 2)).assign(group=groups)
    split = cut(examples, name, 0.1, seed)
    learned = len(split.train) + len(split.validation)
    assert abs(learned - share * len(groups)) <= sizes.max() / 2
    assert abs(len(split.validation) - 0.1 * learned) <= sizes.max() / 2
    parts = [set(groups[numbers]) for numbers in (split.train, split.validation, split.test)]
    assert sum(map(len, parts)) == 200 == len(set().union(*parts))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("sizes", [[100] + [5] * 20, [30, 20, 10, 10, 5, 5, 5, 5, 5, 5]], ids=str)
@pytest.mark.parametrize("name", ["90-10", "30-70"])
def test_a_few_groups_of_which_one_is_large_are_no_failure(name, sizes, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes).astype(str)
    examples = make((len(groups) // 2, len(groups) - len(groups) // 2)).assign(group=groups, stratum=np.int32(0))
    split = cut(examples, name, 0.1, seed)
    assert min(map(len, (split.train, split.validation, split.test))) > 0


@pytest.mark.parametrize(("name", "size"), [("official-50", None), ("size-200", 200)])
def test_sizes_are_of_what_is_left_of_those_that_are_alike(name, size):
    number = np.arange(1000)
    examples = make(texts=[f"text {n // 4}" for n in number], parts=np.where(number // 4 % 4, "train", "test").tolist())
    examples = examples.assign(alike=(number // 4).astype(np.int32), stratum=np.int32(0))
    split = cut(examples, name, 0.1, 0)
    if size:
        assert len(split.train) + len(split.validation) == size
    else:
        whole = cut(examples, "official", 0.1, 0)
        assert len(split.validation) == round(len(whole.validation) / 2) and len(split.train) == len(whole.train) / 2


@pytest.mark.parametrize("name", ["90-10", "30-70", "size-400", "official", "official-50"])
def test_a_dataset_may_be_tested_on_another_s_test_part(name):
    """The same examples as that one's own runs, but for texts that are trained on here."""
    own, other = make(), make(texts=[f"text {n}" if n < 50 else f"further text {n}" for n in range(1000)])
    of = {"dataset": "other", "labels": ["a", "b", "c", "d"]}
    examples, report = borrow(own, {**of, "dataset": "own", "examples": 1000}, other.assign(group="g"), of)
    theirs, alone = cut(other, name, 0.1, 7), cut(own, name, 0.1, 0)
    split = cut(examples, name, 0.1, 0, theirs.test)
    assert split.train.tolist() == alone.train.tolist() and split.validation.tolist() == alone.validation.tolist()
    learned = set(own["text"].iloc[[*split.train, *split.validation]])
    tested = other["text"].iloc[theirs.test]
    assert examples["text"].iloc[split.test].tolist() == [text for text in tested if text not in learned]
    assert examples["borrowed"].iloc[split.test].all() and report["tested_on"] == "other"


@pytest.mark.parametrize("name", ["90-10", "30-70", "size-400", "official"])
def test_groups_of_another_s_test_part_are_not_learned_from(name):
    """Two draws of one pool, or a paraphrased one, have articles in common, with other sentences of each."""
    parts = ["train"] * 800 + ["test"] * 200
    group = np.random.default_rng(0).integers(0, 400, 1000).astype(str)
    own = make(parts=parts).assign(group=group)
    other = make(texts=[f"further text {n}" for n in range(1000)], parts=parts).assign(group=group[::-1])
    of = {"dataset": "own", "labels": ["a", "b", "c", "d"], "group": "article"}
    tested = cut(other, name, 0.1, 7).test
    for its_column, shares in (("article", 0), ("author", 1)):
        examples, _ = borrow(own, of, other, of | {"dataset": "other", "group": its_column})
        split = cut(examples, name, 0.1, 0, tested)
        learned = set(own["group"].iloc[[*split.train, *split.validation]])
        common = learned & set(other["group"].iloc[tested])
        assert bool(common) == bool(shares)
        assert ("of_groups_in_test" in split.report) != bool(shares)


def test_who_is_tested_on_another_needs_no_test_part_of_its_own():
    own, other = make(parts=["train"] * 1000), make(texts=[f"further text {n}" for n in range(1000)])
    of = {"dataset": "other", "labels": ["a", "b", "c", "d"]}
    examples, _ = borrow(own, {**of, "dataset": "own"}, other, of)
    split = cut(examples, "official", 0.1, 0, cut(other, "official", 0.1, 0).test)
    assert set(split.train) | set(split.validation) == set(range(1000))


def test_other_classes_cannot_be_tested_on():
    one, other = ({"dataset": name, "labels": labels} for name, labels in (("one", ["a", "b"]), ("other", ["a"])))
    with pytest.raises(StudyError, match=r"datasets\.one\.test_from: the classes differ \('a', 'b'; of other 'a'\)"):
        borrow(make(), one, make(), other)


@pytest.mark.parametrize(
    ("examples", "name", "validation", "said"),
    [
        (make(), "size-901", 0.1, "size-901 asks for more than the 900 examples"),
        (make(), "90-20", 0.1, "'90-20' does not add up to 100"),
        (make(), "ninety", 0.1, "unknown name 'ninety'"),
        (make((3, 3)), "90-10", 0.01, "part validation would be empty"),
        (make((3, 3)), "90-10", 0.0, "part test would hold one class only"),
        (make(texts=["same"] * 1000), "90-10", 0.0, "part test would be empty"),
        (make(parts=["train"] * 1000), "official", 0.1, "official needs a part 'test', and the data have: train"),
    ],
)
def test_an_impossible_split_is_refused(examples, name, validation, said):
    with pytest.raises(StudyError, match=said):
        cut(examples, name, validation, 0)


def test_a_label_seen_in_test_only_is_refused_by_name():
    examples = make((500, 500))
    examples.loc[examples[examples["part"] == "test"].index[:9], "label"] = 2
    examples.attrs["labels"] = ["bad", "good", "odd"]
    with pytest.raises(StudyError, match="the label 'odd' is in test but not in train"):
        cut(examples, "official", 0.1, 0)


def test_no_validation_is_allowed_when_asked_for():
    split = cut(make(), "90-10", 0.0, 0)
    assert len(split.validation) == 0 and len(split.train) == 900


def test_written_splits_are_the_same_bytes_and_name_their_examples(tmp_path):
    table = tmp_path / "table.parquet"
    write_table(make(), table)
    for folder in ("a", "b"):
        examples, report = read_examples(dataset(examples=600), table, 0)
        write_examples(examples, report, tmp_path / folder)
        write_split(cut(examples, "90-10", 0.1, 0), tmp_path / folder / "90-10", tmp_path / folder / "examples.parquet")
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 6
    assert [sha256(tmp_path / "a" / file) for file in files] == [sha256(tmp_path / "b" / file) for file in files]
    said = json.loads((tmp_path / "a" / "90-10" / "split.json").read_text())
    assert said["examples_sha256"] == json.loads((tmp_path / "a" / "examples.json").read_text())["sha256"]
    assert said["sha256"]["test"] == sha256(tmp_path / "a" / "90-10" / "test.npy")
    assert np.array_equal(np.load(tmp_path / "a" / "90-10" / "test.npy"), cut(examples, "90-10", 0.1, 0).test)


@pytest.fixture
def table(tmp_path):
    """A table of 60 rows: three labels as numbers, two texts, two parts."""
    number = np.arange(60)
    columns = {"id": number.astype(str), "part": np.where(number % 2, "train", "test"), "label": number % 3}
    columns |= {"text": [f"text {n}" for n in number], "other": [f"other {n}" for n in number]}
    path = tmp_path / "table.parquet"

    def write(**changes):
        write_table(pd.DataFrame(columns | changes), path)
        return path

    write.columns = columns
    return write


def test_examples_take_the_named_columns_labels_and_parts(table):
    examples, report = read_examples(dataset(text=("text", "other"), labels=("2", "0"), parts=("train",)), table(), 0)
    assert list(examples.columns) == ["id", "text", "text_pair", "label", "part"]
    assert report["labels"] == ["2", "0"] and report["counts"] == {"2": 10, "0": 10}
    assert report["dropped"] == {"other part": 30, "other label": 10}
    assert examples["label"].dtype == np.int32 and set(examples["part"]) == {"train"}
    row = examples[examples["id"] == "5"].iloc[0]
    assert (row["text"], row["text_pair"], row["label"]) == ("text 5", "other 5", 0)
    assert read_examples(dataset(), table(), 0)[1]["labels"] == ["0", "1", "2"]


def test_a_larger_draw_keeps_the_smaller_ones_rows(table):
    draws = [set(read_examples(dataset(examples=size), table(), 4)[0]["id"]) for size in (12, 30, 60)]
    assert draws[0] < draws[1] < draws[2] and list(map(len, draws)) == [12, 30, 60]
    assert draws[0] != set(read_examples(dataset(examples=12), table(), 5)[0]["id"])
    assert read_examples(dataset(examples=30), table(), 4)[1]["counts"] == {"0": 10, "1": 10, "2": 10}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": ("txt",)}, "unknown column 'txt'.*Did you mean 'text'"),
        ({"label": "lable"}, "unknown column 'lable'.*Did you mean 'label'"),
        ({"labels": ("0", "7")}, r"datasets\.d\.labels: unknown label '7' \(known: 0, 1, 2\)"),
        ({"parts": ("trian",)}, "unknown part 'trian'.*Did you mean 'train'"),
        ({"examples": 61}, "61 asked for, but there are only 60"),
    ],
)
def test_an_impossible_dataset_is_refused(table, changes, said):
    with pytest.raises(StudyError, match=said):
        read_examples(dataset(**changes), table(), 0)


def test_minus_one_is_no_class_unless_it_is_named(table):
    labels = [n % 3 - 1 for n in range(60)]
    with pytest.raises(StudyError, match=r"holds -1 beside 0 to 1.*labels: \[0, 1\]"):
        read_examples(dataset(), table(label=labels), 0)
    assert read_examples(dataset(labels=("0", "1")), table(label=labels), 0)[1]["counts"] == {"0": 20, "1": 20}
    assert read_examples(dataset(labels=("-1", "0", "1")), table(label=labels), 0)[1]["labels"] == ["-1", "0", "1"]
    named = dataset(names=("bad", "so-so", "good"))
    assert read_examples(named, table(label=labels), 0)[1]["labels"] == ["bad", "so-so", "good"]
    with pytest.raises(StudyError, match="holds one label only"):
        read_examples(dataset(), table(label=[-1] * 60), 0)
    two = [n % 2 * 2 - 1 for n in range(60)]
    assert read_examples(dataset(), table(label=two), 0)[1]["labels"] == ["-1", "1"], "signs are classes"


def test_numbers_that_are_all_one_are_refused(table):
    numbers = [n / 7 if n % 2 else -1.0 for n in range(60)]
    examples, _ = read_examples(dataset(task="regression"), table(label=numbers), 0)
    with pytest.raises(StudyError, match="official: every example of the part test has the label -1, by which"):
        cut(examples, "official", 0.1, 0)
    cut(examples, "90-10", 0.1, 0)


def test_rows_without_label_or_text_are_refused_by_id(table):
    labels = [None if n in (7, 9) else str(n % 3) for n in range(60)]
    with pytest.raises(StudyError, match=r"row 7 \(part train\) has no label \(column 'label'\), and 1 more"):
        read_examples(dataset(), table(label=labels), 0)
    texts = [" \n" if n == 8 else f"text {n}" for n in range(60)]
    with pytest.raises(StudyError, match=r"row 8 \(part test\) has an empty text \(column 'other'\);"):
        read_examples(dataset(text=("text", "other")), table(other=texts), 0)
    with pytest.raises(StudyError, match="holds one label only"):
        read_examples(dataset(), table(label=["x"] * 60), 0)


@pytest.mark.skipif(not (SHARED / "data" / "imdb").is_dir(), reason="the IMDb files are not on this machine")
def test_imdbs_123_texts_in_both_parts_are_found(tmp_path):
    options = {"path": str(SHARED / "data" / "imdb"), "files": {"train": "train.jsonl.gz", "test": "test.jsonl.gz"}}
    path = tmp_path / "table.parquet"
    read_source(Source("imdb", "files", freeze(options)), path, tmp_path / "manifest.json")
    examples, report = read_examples(dataset(), path, 0)
    assert report["counts"] == {"0": 25_000, "1": 25_000}
    split = cut(examples, "official", 0.1, 0)
    assert split.report["duplicates"]["texts_in_test_and_train"] == 123
    assert len(split.test) == 25_000 - split.report["duplicates_removed"]["test"]
    keys = splits.folded(examples)
    assert not set(keys[split.test]) & set(keys[split.train])


def test_a_label_that_is_in_test_alone_is_named_with_its_dataset(table, tmp_path):
    rows, report = read_examples(dataset(name="reviews"), table(), 0)
    number = np.arange(len(rows))
    rows["label"] = np.where(number == 0, 2, number % 2).astype(np.int32)
    rows["part"] = np.where(number < 10, "test", "train")
    write_examples(rows, report | {"labels": ["common", "other", "rare"]}, tmp_path)
    said = r"^datasets\.reviews: splits: official: the label 'rare' is in test but not in train\.$"
    with pytest.raises(StudyError, match=said):
        stages.split("official", tmp_path / "examples.parquet", 0.1, 0, tmp_path / "split", [])
