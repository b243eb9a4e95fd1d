"""The table of `peftstudy methods`, against golden files."""

import os
from pathlib import Path

import pytest

from peftstudy.listing import limits_table, methods_table
from peftstudy.methods import LEFT_OUT, registered
from peftstudy.shapes import Shape

GOLDEN = Path(__file__).parent / "golden"
FIRST = ("bitfit", "embeddings", "encoder", "full", "head", "houlsby", "lora", "prompt")
BERT = Shape("bert", 128, 2, 512, 2, 30522, 512, 2, pooler=True)
SHORT = Shape("roberta", 64, 1, 128, 2, 1000, 18, 1)


@pytest.mark.parametrize(("name", "shape"), [("methods", None), ("methods-bert", BERT), ("methods-short", SHORT)])
def test_table(name, shape):
    """Of the first eight methods, so that a new one need not touch the golden files."""
    methods = {method: registered()[method] for method in FIRST}
    found, golden = methods_table(shape, methods), GOLDEN / f"{name}.txt"
    if os.environ.get("PEFTSTUDY_UPDATE_GOLDEN"):
        golden.write_text(found)
    assert found == golden.read_text()


def test_limits():
    """Of some of the first eight methods, and of all that is left out."""
    methods = {method: registered()[method] for method in ("bitfit", "full", "prompt")}
    assert [line.split()[:2] for line in limits_table(methods).splitlines()] == [
        ["method", "family"],
        *(["bitfit", family] for family in ("modernbert", "llama", "t5")),
        *(["prompt", family] for family in ("distilbert", "deberta-v2", "modernbert")),
        *([name, "any"] for name in LEFT_OUT),
    ]


def test_every_method_is_listed():
    assert {line.split()[0] for line in methods_table(BERT).splitlines()[1:]} == set(registered())
