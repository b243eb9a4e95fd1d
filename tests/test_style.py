"""The code reads as one hand's: linters, formatters, and the workflow's own lint, in one command with the tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
RULES = sorted(ROOT.glob("workflow/rules/*.smk"))
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
