import os
import subprocess
import sys

import pytest
from conftest import ROOT

from peftstudy import __main__


def peftstudy(*arguments):
    command = [sys.executable, "-m", "peftstudy", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_check_counts_the_runs_of_the_default_study():
    done = peftstudy("check", "config.yaml")
    assert done.returncode == 0
    assert done.stdout.startswith("config.yaml: default: ")


def test_check_says_where_methods_try_more_learning_rates_than_others(tmp_path):
    path, text = tmp_path / "study.yaml", (ROOT / "config.yaml").read_text()
    path.write_text(text)
    assert len(peftstudy("check", str(path)).stdout.splitlines()) == 1
    path.write_text(text.replace("full: {learning_rate: 1.0e-3}", "full: {learning_rate: [1.0e-4, 1.0e-3]}"))
    [_, line] = peftstudy("check", str(path)).stdout.splitlines()
    assert line.startswith("The search is not equal, as the report will say: learning rates are full 2; embeddings, ")


def test_a_mistake_is_one_sentence_and_exit_code_1(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text((ROOT / "config.yaml").read_text().replace("rank: 8", "rnak: 8"))
    done = peftstudy("check", str(path))
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(f"peftstudy check: {path}: methods.lora: unknown option 'rnak' (known: ")
    assert line.endswith("Did you mean 'rank'?")


def test_it_starts_without_the_heavy_libraries():
    code = (
        "import sys, peftstudy.__main__ as m; m.parser(); "
        "print([x for x in ('torch', 'pandas', 'transformers') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_training_starts_without_the_libraries_that_no_backbone_uses():
    """Transformers would load two of them with any model, and they take a fifth of the start."""
    code = (
        "import sys; from peftstudy import runs; from transformers import BertModel; "
        "print([x for x in ('scipy', 'sklearn', 'peft', 'adapters') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_subcommand_says_what_it_is_for():
    for name, (_, text, _) in __main__.COMMANDS.items():
        assert text and text[0].islower() and not text.endswith("."), name


def test_who_reads_no_further_ends_it_quietly():
    """As `peftstudy methods | head` does, once it has its lines."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "peftstudy", "methods"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_broken_pipe_is_told(monkeypatch):
    def lose(**options):
        raise BrokenPipeError

    monkeypatch.setitem(__main__.COMMANDS, "methods", (lose, "lose a pipe", {}))
    with pytest.raises(BrokenPipeError):
        __main__.main(["methods"])
