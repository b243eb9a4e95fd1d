"""The lock, what is made from it, and what is installed agree."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from peftstudy import environment

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = (ROOT / "pyproject.toml").read_text()
TORCH = environment.torch_pin(PROJECT)


def test_regenerating_gives_the_same_conda_files():
    made = environment.conda_files(LOCK, TORCH)
    assert made == {path.name: path.read_text() for path in (ROOT / "envs").glob("*.yaml")}


def test_the_conda_file_holds_every_pin_once():
    pins = yaml.safe_load(environment.conda_files(LOCK, TORCH)["peftstudy.yaml"])["dependencies"][-1]["pip"]
    assert [Requirement(pin).name for pin in pins] == ["torch", *(pin.name for pin in environment.locked(LOCK))]
    assert len(pins) == len(set(pins)) > 100


def test_what_is_installed_is_what_is_locked():
    assert environment.disagreements(LOCK, TORCH) == []


def test_another_version_and_a_missing_package_are_named():
    lock = "pyyaml==0.1 \\\n    --hash=sha256:00\nno-such-package==1 \\\nabsent==2 ; sys_platform == 'nowhere' \\\n"
    assert environment.disagreements(lock, TORCH) == [
        f"pyyaml {version('pyyaml')} is installed (==0.1 is locked)",
        "no-such-package is not installed (==1 is locked)",
    ]


def test_the_lock_pins_each_package_to_one_version():
    """The default study reads the packages' docstrings: another version is other data."""
    names = [pin.name for pin in environment.locked(LOCK)]
    assert sorted(names) == sorted(set(names))


def test_every_locked_package_has_a_hash():
    blocks = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(environment.locked(LOCK))
    assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize("word", ["http:", "https:", "index-url", "find-links"])
def test_the_lock_names_no_host(word):
    assert word not in LOCK


def test_the_project_pins_what_the_lock_pins():
    project = tomllib.loads(PROJECT)["project"]
    asked = map(Requirement, project["dependencies"] + project["optional-dependencies"]["dev"])
    held = {pin.name: pin.specifier for pin in environment.locked(LOCK)}
    assert {pin.name: pin.specifier for pin in asked if pin.name != "torch"}.items() <= held.items()


def bare_machine(folder: Path, python: str | None) -> dict[str, str]:
    """Return the variables of a machine that has the shell's tools, no apt-get, no LaTeX, and maybe a python3."""
    tools = folder / "bin"
    tools.mkdir()
    for name in ("bash", "cat", "id", "rm", "sed", "sha256sum", "touch"):
        (tools / name).symlink_to(shutil.which(name))
    if python is not None:
        (tools / "python3").write_text(f"#!/bin/sh\n{python}\n")
        (tools / "python3").chmod(0o755)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return {"PATH": str(tools)}


def make(folder: Path, goal: str, environment: dict[str, str]) -> subprocess.CompletedProcess:
    command = [shutil.which("make"), goal]
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True)


NO_PYTHON = (
    "No Python 3.11, 3.12 or 3.13 was found: install one (apt-get install python3 python3-venv), then try again."
)
NO_VENV = (
    "python3 cannot make environments: install the package python{0}.{1}-venv (apt-get install python{0}.{1}-venv)"
)


@pytest.mark.parametrize(
    "python, sentence",
    [
        (None, NO_PYTHON),
        ("exit 1", NO_PYTHON),
        (f'case "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"', NO_VENV.format(*sys.version_info)),
    ],
    ids=["none", "another version", "without venv"],
)
def test_a_machine_without_python_is_told_what_to_install(tmp_path, python, sentence):
    done = make(tmp_path, ".venv/ready", bare_machine(tmp_path, python))
    assert done.returncode != 0
    assert sentence in done.stderr.splitlines()[0]
    assert not (tmp_path / ".venv").exists()


def test_a_machine_without_latex_is_told_what_to_install_and_goes_on(tmp_path):
    done = make(tmp_path, "latex", bare_machine(tmp_path, None))
    assert done.returncode == 0
    assert "install latexmk texlive-latex-recommended texlive-fonts-recommended lmodern" in done.stderr


def test_a_machine_without_chromium_is_told_what_to_install_and_goes_on(tmp_path):
    done = make(tmp_path, "chromium", bare_machine(tmp_path, None))
    assert done.returncode == 0
    assert "its tests are skipped: install chromium (on Debian" in done.stderr


def test_an_environment_is_made_again_only_when_the_lock_has_other_words(tmp_path):
    environment = bare_machine(tmp_path, None)
    (tmp_path / ".venv").mkdir()
    lock, stamp = tmp_path / "requirements.lock", tmp_path / ".venv" / "locked"
    stamp.write_bytes(subprocess.check_output(["sha256sum"], stdin=lock.open()))
    os.utime(lock, (stamp.stat().st_mtime + 60,) * 2)
    assert make(tmp_path, ".venv/locked", environment).returncode == 0
    lock.write_text("other==1")
    os.utime(lock, (stamp.stat().st_mtime + 60,) * 2)
    assert NO_PYTHON in make(tmp_path, ".venv/locked", environment).stderr


def test_an_interrupted_environment_is_made_again(tmp_path):
    environment = bare_machine(tmp_path, None)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    assert NO_PYTHON in make(tmp_path, ".venv/ready", environment).stderr


def test_another_build_of_torch_is_installed_over_the_one_that_is_there(tmp_path):
    environment, asked = bare_machine(tmp_path, None), tmp_path / "asked"
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("uv", "python"):
        (tmp_path / ".venv/bin" / name).write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    for name in ("locked", "ready"):
        (tmp_path / ".venv" / name).touch()
    for backend, build in (("", None), ("cpu", "cpu"), ("cpu", None), ("", None), ("cu130", "cu130"), ("", None)):
        asked.write_text("")
        done = make(tmp_path, ".venv/ready", environment | {"TORCH_BACKEND": backend})
        assert done.returncode == 0, done.stderr
        assert (f"--torch-backend {build} --reinstall-package torch {TORCH}" in asked.read_text()) == bool(build)
        assert bool(asked.read_text()) == bool(build)
