"""The lock, what is made from it, and what is installed agree."""

import re
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
