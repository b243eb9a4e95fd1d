"""Records can be traced to code, packages and machine, and each run has its own peak of memory."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from peftstudy import provenance as module
from peftstudy.provenance import code, machine, peak_memory_bytes, provenance, reset_peak_memory


def test_it_is_plain_json_and_the_same_twice():
    assert json.loads(json.dumps(provenance())) == provenance()


def test_the_environment_is_known_by_the_versions_that_decide_numbers(monkeypatch):
    before = provenance()
    assert before["packages"]["torch"] == version("torch")
    assert None not in before["packages"].values()
    real = module.version
    monkeypatch.setattr(module, "version", lambda name: "9.9" if name == "peft" else real(name))
    after = provenance()
    assert after["packages"]["peft"] == "9.9"
    assert after["environment"] != before["environment"]
    monkeypatch.setattr(module, "version", lambda name: "9.9" if name == "pytest" else real(name))
    assert provenance()["environment"] == before["environment"]


def test_the_host_is_named_in_cluster_jobs_alone(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert "slurm" not in provenance() and platform.node() not in provenance()["machine"].values()
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert provenance()["slurm"] == {"job": "17", "node": platform.node()}


def test_it_imports_no_torch():
    script = "import sys; from peftstudy.provenance import provenance; provenance(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_the_machine():
    found = machine()
    assert 1 <= found["cores"] <= os.cpu_count()
    assert found["processor"] and found["device"]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path):
    root = (tmp_path / "a checkout").resolve()
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("1")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    code.cache_clear()
    return root


def test_a_clean_checkout(checkout):
    assert code(checkout) == {"commit": git(checkout, "rev-parse", "HEAD").strip(), "dirty": False}


@pytest.mark.parametrize("name, dirty", [("src/a.py", True), ("src/new.py", True), ("notes.txt", False)])
def test_dirty_means_changed_code(checkout, name, dirty):
    (checkout / name).write_text("2")
    assert code(checkout)["dirty"] is dirty


def test_outside_a_checkout_nothing_is_claimed(checkout, tmp_path):
    assert code(tmp_path) == {"commit": None, "dirty": None}
    assert code(checkout / "src") == {"commit": None, "dirty": None}, "another project's commit is not ours"


def test_the_peak_is_that_of_a_run_after_a_reset():
    size = 200 * 2**20
    block = bytearray(os.urandom(1)) * size
    high = peak_memory_bytes()
    assert high > size
    del block
    if not reset_peak_memory():
        pytest.skip("this system cannot reset the peak")
    assert peak_memory_bytes() < high - size / 2


def test_without_proc_the_peak_is_that_of_the_process(monkeypatch, tmp_path):
    measured = peak_memory_bytes()
    monkeypatch.setattr(module, "STATUS", tmp_path / "absent")
    assert peak_memory_bytes() == pytest.approx(measured, rel=0.5)
    monkeypatch.setattr(module, "CLEAR", tmp_path / "absent" / "absent")
    assert reset_peak_memory() is False
