import pytest

from peftstudy import files
from peftstudy.errors import StudyError, unknown


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(ValueError), files.whole(path) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_killed_writers_left_of_a_file_is_removed_alone(tmp_path):
    names = [".small.pt.n7-1.part", ".small.pt.n8-2.part", ".small-2.pt.n7-3.part", ".small.lock.0f", "small.pt"]
    for name in names:
        (tmp_path / name).touch()
    files.forget_parts(tmp_path, "small.pt")
    assert {path.name for path in tmp_path.iterdir()} == set(names[2:])
    files.forget_parts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(names[3:])


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder"
    with files.whole_folder(path) as folder:
        (folder / "one").touch()
    with pytest.raises(ValueError), files.whole_folder(path) as folder:
        (folder / "two").touch()
        raise ValueError
    assert [p.name for p in path.iterdir()] == ["one"]
    with files.whole_folder(path) as folder:
        (folder / "three").touch()
    assert [p.name for p in path.iterdir()] == ["three"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_broken_json_file_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(StudyError, match=r"a\.json: not a whole JSON file"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(StudyError, match="no such file"):
        files.read_json(tmp_path / "b.json")
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "c.json", float("nan"))
    assert not (tmp_path / "c.json").exists()


@pytest.mark.parametrize("read", [files.read_json, files.read_text])
def test_a_file_where_a_folder_should_be_is_one_sentence(tmp_path, read):
    (tmp_path / "study.yaml").write_text("study: x")
    with pytest.raises(StudyError, match=r"study.yaml/study.json: cannot be read: Not a directory\.$"):
        read(tmp_path / "study.yaml" / "study.json")
    with pytest.raises(StudyError, match=r"cannot be read: Is a directory\.$"):
        read(tmp_path)


def test_an_unknown_name_comes_with_the_nearest_one():
    assert str(unknown("x", "method", "bitft", ["bitfit", "lora"])).endswith("Did you mean 'bitfit'?")
    assert str(unknown("x", "method", "zzz", [])) == "x: unknown method 'zzz' (known: none)."


def test_of_very_many_names_the_nearest_are_shown():
    names = [f"method-{i}" for i in range(100)]
    said = str(unknown("x", "method", "methd-77", names))
    assert "method-77, " in said and said.endswith(" and 95 more). Did you mean 'method-77'?") and said.count(",") == 4
    assert "more" not in str(unknown("x", "method", "methd-7", names[:40]))


def test_the_checksum_of_a_value_knows_no_order():
    assert files.sha256_json({"a": 1, "b": 2}) == files.sha256_json({"b": 2, "a": 1})
