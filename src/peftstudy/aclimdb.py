"""The public IMDb archive (Maas et al., 2011) as three JSON Lines files."""

import gzip
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from peftstudy import files
from peftstudy.errors import StudyError

PARTS = {"train": ("pos", "neg"), "test": ("pos", "neg"), "unsup": ("unsup",)}
LABELS = {"neg": 0, "pos": 1}


def convert(archive: Path, output: Path) -> dict[str, int]:
    """Write train, test and unsup.jsonl.gz from aclImdb_v1.tar.gz; return the reviews in each.

    A row holds id (the path in the archive), text, and, but for unsup, label (0 negative, 1
    positive) and rating (1 to 10, from the file's name). Rows are sorted by the SHA-256 of their
    id, so the first n are a fair sample. Raises StudyError when the archive is missing, damaged or
    another one.
    """
    rows: dict[str, list[dict]] = {part: [] for part in PARTS}
    try:
        for part, row in _reviews(archive):
            rows[part].append(row)
    except FileNotFoundError:
        raise StudyError(f"{archive}: no such file; fetch aclImdb_v1.tar.gz from its authors' page.") from None
    except (tarfile.TarError, EOFError, OSError) as error:
        raise StudyError(f"{archive}: not a whole archive ({error}); fetch it again.") from None
    for part, found in rows.items():
        if not found:
            raise StudyError(f"{archive}: no reviews for {part}; expected aclImdb/{part}/... as in aclImdb_v1.tar.gz.")
    for part, found in rows.items():
        found.sort(key=lambda row: files.sha256_json(row["id"]))
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        with files.whole(output / f"{part}.jsonl.gz") as temporary:
            temporary.write_bytes(gzip.compress(lines.encode(), mtime=0))
    return {part: len(found) for part, found in rows.items()}


def _reviews(archive: Path) -> Iterator[tuple[str, dict]]:
    with tarfile.open(archive, "r|*") as members:
        for member in members:
            path = PurePosixPath(member.name)
            if not member.isfile() or path.suffix != ".txt" or len(path.parts) != 4:
                continue
            _, folder, kind, _ = path.parts
            part = "unsup" if kind == "unsup" else folder
            if kind not in PARTS.get(part, ()):
                continue
            row = {"id": "/".join(path.parts[1:]), "text": members.extractfile(member).read().decode()}
            if kind in LABELS:
                row |= {"label": LABELS[kind], "rating": int(path.stem.partition("_")[2])}
            yield part, row
