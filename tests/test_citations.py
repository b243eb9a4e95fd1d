import re

import pytest
from conftest import ROOT

from peftstudy import methods

KEYS = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "paper" / "references.bib").read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", methods.registered())
def test_every_method_is_in_the_bibliography(name):
    assert methods.registered()[name].citation in KEYS
