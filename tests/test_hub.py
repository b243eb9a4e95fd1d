"""Fetching from the hub, against a server on loopback that speaks its protocol."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import COMMIT, serving

from peftstudy.files import read_json, sha256

# HF_ENDPOINT is read when the library is imported, hence a process of its own.
FETCH = """
import json, sys
from pathlib import Path
from peftstudy.errors import StudyError
from peftstudy.hub import fetch
repository, revision, kind, patterns, folder = json.loads(sys.argv[1])
try:
    fetch(repository, revision, kind, patterns, Path(folder))
except StudyError as error:
    sys.exit(f"StudyError: {error}")
"""


@pytest.fixture
def repositories(tmp_path):
    """A dataset of two parquet files, and models with and without safetensors."""
    dataset = tmp_path / "hub" / "dataset"
    (dataset / "data").mkdir(parents=True)
    for part, start in (("train", 0), ("test", 4)):
        rows = {"text": [f"text number {start + i}" for i in range(4)], "label": [0, 1, 0, 1]}
        pq.write_table(pa.table(rows), dataset / "data" / f"{part}-00000.parquet")
    (dataset / "README.md").write_text("A dataset.\n")
    (dataset / "script.py").write_text("raise SystemExit('was run')\n")
    model = tmp_path / "hub" / "model"
    _tiny_model(model)
    pickled = tmp_path / "hub" / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_bytes(b"pickle")
    return {"datasets/org/reviews": dataset, "models/org/tiny": model, "models/org/pickled": pickled}


def _tiny_model(folder: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "word"]) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(7, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    BertModel(config).save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")


def run(code, arguments, tmp_path, **environment):
    """Run Python code in a process that has no cache, and return it ended."""
    root = Path(__file__).parents[1] / "src"
    proxies = {name for name in os.environ if name.lower().endswith("_proxy")}
    inherited = {name: value for name, value in os.environ.items() if name not in proxies}
    settings = {"PYTHONPATH": str(root), "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    settings |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)],
        env=inherited | settings | environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def fetch(tmp_path, repositories, *arguments, **faults):
    with serving(repositories, **faults) as hub:
        settings = {"HF_ENDPOINT": hub.url, "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
        return run(FETCH, [*arguments, str(tmp_path / "out" / "files")], tmp_path, **settings), hub


def refused(ended, tmp_path):
    """Return the one sentence of a fetch that failed and left nothing."""
    assert ended.returncode == 1, ended.stdout + ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("StudyError: ")]
    assert len(lines) == 1 and "Traceback" not in ended.stderr, ended.stderr
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()] if (tmp_path / "out").exists() else []
    assert left == []
    return lines[0]


def test_a_dataset_is_fetched_whole_and_read_offline(tmp_path, repositories):
    ended, hub = fetch(
        tmp_path, repositories, "org/reviews", COMMIT, "dataset", ["data/train-*", "data/test-00000.parquet"]
    )
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "out" / "files"
    manifest = read_json(folder / "manifest.json")
    assert manifest["revision"] == COMMIT
    names = [entry["name"] for entry in manifest["files"]]
    assert names == ["data/test-00000.parquet", "data/train-00000.parquet"]
    assert manifest["files"][0]["sha256"] == sha256(repositories["datasets/org/reviews"] / names[0])
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert found == [*names, "manifest.json"]
    assert not any("script.py" in request for request in hub.requests)

    # The server is gone: the same source is now read without it, by the readers of local files.
    code = """
import json, sys
from pathlib import Path
from peftstudy.sources import read_source
from peftstudy.specs import Source, freeze
output = Path(json.loads(sys.argv[1]))
files = {"train": "data/train-*", "test": "data/test-00000.parquet"}
options = {"repository": "org/reviews", "revision": "%s", "files": files}
read_source(Source("reviews", "hub", freeze(options)), output / "table.parquet", output / "manifest.json")
"""
    ended = run(code % COMMIT, str(tmp_path / "out"), tmp_path, HF_HUB_OFFLINE="1")
    assert ended.returncode == 0, ended.stderr
    table = pq.read_table(tmp_path / "out" / "table.parquet")
    found = sorted(zip(table["part"].to_pylist(), table["text"].to_pylist(), strict=True))
    assert found == [("train" if i < 4 else "test", f"text number {i}") for i in (4, 5, 6, 7, 0, 1, 2, 3)]
    assert read_json(tmp_path / "out" / "manifest.json")["revision"] == COMMIT


def test_a_model_is_fetched_without_pickles_and_loads_offline(tmp_path, repositories):
    ended, hub = fetch(tmp_path, repositories, "org/tiny", COMMIT, "model", [])
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "out" / "files"
    assert (folder / "model.safetensors").is_file() and not (folder / "pytorch_model.bin").exists()
    assert not any("pytorch_model.bin" in request for request in hub.requests)
    code = """
import json, sys
from transformers import AutoModel, AutoTokenizer
folder = json.loads(sys.argv[1])
model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
print(model(**tokenizer("a word", return_tensors="pt")).last_hidden_state.shape[1])
"""
    ended = run(code, str(folder), tmp_path, HF_HUB_OFFLINE="1")
    assert ended.returncode == 0 and ended.stdout.strip() == "4", ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("org/reviewz", COMMIT, "dataset", ["*.parquet"]), "org/reviewz: the hub has no such dataset"),
        (("org/reviews", "f" * 40, "dataset", ["*.parquet"]), f"the hub has no revision {'f' * 40}"),
        (("org/reviews", "main", "dataset", ["*.parquet"]), "'main' is no full commit hash"),
        (("org/reviews", COMMIT, "dataset", ["data/trian-00000.parquet"]), "Did you mean 'data/train-00000.parquet'?"),
        (("org/pickled", COMMIT, "model", []), "has no weights in safetensors"),
        (("org/pickled", COMMIT, "model", ["*.bin"]), "*.bin is a pickle"),
    ],
)
def test_what_cannot_be_fetched_gets_one_sentence(tmp_path, repositories, arguments, said):
    ended, _ = fetch(tmp_path, repositories, *arguments)
    assert said in refused(ended, tmp_path)


def test_a_truncated_answer_leaves_nothing(tmp_path, repositories):
    name = "data/test-00000.parquet"
    ended, _ = fetch(tmp_path, repositories, "org/reviews", COMMIT, "dataset", ["data/*"], truncated=name)
    assert "org/reviews: " in refused(ended, tmp_path)


@pytest.mark.parametrize("fault", [{"broken": True}, {"stalled": "data/test-00000.parquet"}], ids=["500", "stalled"])
def test_a_hub_that_fails_gets_one_sentence_and_the_next_try_goes_well(tmp_path, repositories, fault):
    arguments = ("org/reviews", COMMIT, "dataset", ["data/*"])
    ended, _ = fetch(tmp_path, repositories, *arguments, **fault)
    said = refused(ended, tmp_path)
    assert said.startswith("StudyError: org/reviews: the transfer from the hub failed (") and said.endswith(
        "try again."
    )
    ended, _ = fetch(tmp_path, repositories, *arguments)
    assert ended.returncode == 0, ended.stderr


def test_without_a_network_the_sentence_says_so(tmp_path):
    arguments = ["org/reviews", COMMIT, "dataset", ["*.parquet"], str(tmp_path / "out" / "files")]
    ended = run(FETCH, arguments, tmp_path, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in refused(ended, tmp_path)
