import re

import pytest
from conftest import ROOT

from peftstudy import methods

KEYS = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "paper" / "references.bib").read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", methods.registered())
def test_every_method_is_in_the_bibliography(name):
    assert methods.registered()[name].citation in KEYS


def test_every_citation_of_the_report_is_in_the_bibliography():
    paths = [ROOT / "paper" / "report.tex", *(ROOT / "paper" / "sections").glob("*.tex")]
    cited = {
        key.strip()
        for path in paths
        for keys in re.findall(r"\\cite\w*\{([^}]*)\}", path.read_text())
        for key in keys.split(",")
    }
    assert cited
    assert cited <= KEYS
