import gzip
import io
import json
import tarfile

import pytest

from peftstudy import aclimdb
from peftstudy.errors import StudyError

REVIEWS = {
    "aclImdb/train/pos/0_9.txt": "A fine film.",
    "aclImdb/train/neg/0_1.txt": "Dull é.",
    "aclImdb/train/unsup/5_0.txt": "Seen.",
    "aclImdb/test/pos/3_10.txt": "Grand.",
    "aclImdb/test/neg/4_2.txt": "Poor.",
    "aclImdb/test/urls_pos.txt": "no review",
}


def archive(path, reviews):
    with tarfile.open(path, "w:gz") as members:
        for name, text in reviews.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            members.addfile(member, io.BytesIO(text.encode()))
    return path


def rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return sorted((json.loads(line) for line in file), key=lambda row: row["id"])


def test_reviews_keep_label_and_rating(tmp_path):
    counts = aclimdb.convert(archive(tmp_path / "a.tar.gz", REVIEWS), tmp_path)
    assert counts == {"train": 2, "test": 2, "unsup": 1}
    assert rows(tmp_path / "train.jsonl.gz") == [
        {"id": "train/neg/0_1.txt", "label": 0, "rating": 1, "text": "Dull é."},
        {"id": "train/pos/0_9.txt", "label": 1, "rating": 9, "text": "A fine film."},
    ]
    assert rows(tmp_path / "unsup.jsonl.gz") == [{"id": "train/unsup/5_0.txt", "text": "Seen."}]


def test_damaged_and_other_archives_are_refused(tmp_path):
    path = archive(tmp_path / "a.tar.gz", REVIEWS)
    (tmp_path / "cut.tar.gz").write_bytes(path.read_bytes()[:100])
    for name, message in (("cut.tar.gz", "not a whole archive"), ("none.tar.gz", "no such file")):
        with pytest.raises(StudyError, match=message):
            aclimdb.convert(tmp_path / name, tmp_path / "out")
    with pytest.raises(StudyError, match="no reviews for test"):
        aclimdb.convert(archive(tmp_path / "b.tar.gz", {"aclImdb/train/pos/0_9.txt": "x"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()
