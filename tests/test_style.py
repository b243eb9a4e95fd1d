"""The code reads as one hand's: linters, formatters, and the workflow's own lint, in one command with the tests."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
RULES = sorted(ROOT.glob("workflow/rules/*.smk"))
FOLDERS = {
    "evidence": {"report", "tables", "figures", "paper", "methods", "statistics"},
    "tricks": {"report", "evidence", "methods", "tasks", "runs", "training"},
    "tasks": {"report", "evidence", "methods", "runs", "training"},
    "methods": {"report", "evidence", "runs", "training"},
}
"""A folder of the package -> what it must not know of: numbers come before words, and a step before what runs it."""
LARGEST = 3_000_000
"""Bytes of a file in the repository: results and data belong elsewhere."""


def run(*command: str, **environment: str) -> subprocess.CompletedProcess:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=ROOT, text=True, capture_output=True, env={**os.environ, "PATH": path, **environment}
    )


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff(command):
    done = run("ruff", *command, "--no-cache", ".")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_comes_first_does_not_know_what_comes_after(folder):
    files = sorted((ROOT / "src" / "peftstudy" / folder).glob("*.py"))
    known = {(path.name, name) for path in files for name in _imported(ast.parse(path.read_text()))}
    assert len(known) > len(files) / 2, "no imports were found: are these still the package's folders?"
    assert [(file, name) for file, name in sorted(known) if name in FOLDERS[folder]] == []


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield the modules and folders of the package that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "peftstudy":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("peftstudy."):
            yield node.module.split(".")[1]


def test_the_workflow_is_there():
    assert (ROOT / "Snakefile").is_file()
    assert RULES


def test_snakefmt():
    done = run("snakefmt", "--check", "--diff", "Snakefile", *map(str, RULES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_snakemake_lint():
    done = run("snakemake", "--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_large_file_is_in_the_repository():
    listed = run("git", "ls-files", "-z")
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert [str(path) for path in paths if path.is_file() and path.stat().st_size > LARGEST] == []


@pytest.mark.parametrize("name", ["Makefile", ".ci/run"])
def test_shell_commands_parse(name):
    """make -n expands every recipe; bash -n reads it without running it."""
    text = (ROOT / name).read_text()
    if name == "Makefile":
        text = "\n".join(
            run("make", "-n", "-B", goal).stdout
            for goal in ("report", "test", "test-page", "test-slurm", "lint", "clean")
        )
        assert "snakemake --cores all" in text
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
