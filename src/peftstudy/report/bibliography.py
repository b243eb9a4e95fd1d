"""The works that the report cites, read from paper/references.bib."""

import re
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

PLACES = ("journal", "booktitle", "note", "publisher", "howpublished", "school")
"""Where a work appeared: the first of these that it has."""


class Work(NamedTuple):
    """One work: its authors as a citation names them, and what a list of references says of it."""

    authors: str
    year: str
    everyone: str
    title: str
    place: str


def read(text: str) -> dict[str, Work]:
    """Return the works of a BibTeX file by their keys; one field a line, as the file is written."""
    works = {}
    for found in re.finditer(r"^@\w+\{(\S+),\n(.*?)^\}", text, flags=re.MULTILINE | re.DOTALL):
        fields = dict(re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", found[2], flags=re.MULTILINE))
        works[found[1]] = _work({name: _plain(value) for name, value in fields.items()})
    return works


def _work(fields: Mapping[str, str]) -> Work:
    names = [name.partition(", ")[::2] for name in fields["author"].split(" and ")]
    family = [last for last, _ in names]
    cited = f"{family[0]} et al." if len(family) > 2 else " and ".join(family)
    everyone = ", ".join(f"{first} {last}".strip() for last, first in names)
    place = next((fields[name] for name in PLACES if name in fields), "")
    return Work(cited, fields["year"], everyone, fields["title"], place)


ACCENTS = {
    '"': "\N{COMBINING DIAERESIS}", "'": "\N{COMBINING ACUTE ACCENT}", "`": "\N{COMBINING GRAVE ACCENT}",
    "^": "\N{COMBINING CIRCUMFLEX ACCENT}", "~": "\N{COMBINING TILDE}", "v": "\N{COMBINING CARON}",
    "c": "\N{COMBINING CEDILLA}", "u": "\N{COMBINING BREVE}",
}  # fmt: skip
SIGNS = {"&": "&", "i": "\N{LATIN SMALL LETTER DOTLESS I}"}


def _plain(value: str) -> str:
    r"""Return a field as plain words.

    >>> _plain(r"Dem{\v{s}}ar, K{\"u}{\c{c}}{\"{u}}k, Moli{\`e}re & {BERT}")
    'Demšar, Küçük, Molière & BERT'
    """
    value = re.sub(r"\\([a-zA-Z]+|&)(?![a-zA-Z{])", lambda found: SIGNS.get(found[1], found[0]), value)
    value = re.sub(r"\\([\"'`^~]|[vcu](?=\{))\{?([A-Za-z])\}?", lambda found: found[2] + ACCENTS[found[1]], value)
    return unicodedata.normalize("NFC", re.sub(r"\\url|[{}]", "", value).replace("--", "–"))
