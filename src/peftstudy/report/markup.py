r"""The report's LaTeX as HTML: what `latex` writes, and the captions of the sections, and no more than that.

The page shows the tables, numbers and captions of the PDF, so that both say the same. A command that is not
known here is a ValueError: a table of a new kind must not lose a part of itself in silence.
"""

import re
from collections.abc import Iterator, Mapping
from html import escape, unescape
from typing import NamedTuple

from peftstudy.report.bibliography import Work

SYMBOLS = {
    "textbackslash": "\\", "textasciicircum": "^", "textasciitilde": "~", "textless": "<", "textgreater": ">",
    "textbar": "|", "textquotedbl": '"', "dots": "…", "times": "×", "ge": "≥", "le": "≤", "pm": "±", "star": "★",
    "allowbreak": "", "dagger": "†", "ast": "*", ",": "\N{NARROW NO-BREAK SPACE}", "noindent": "",
}  # fmt: skip
STYLES = {"textbf": "strong", "emph": "em", "texttt": "code"}
LIGATURES = {"---": "—", "--": "–", "~": "\N{NO-BREAK SPACE}"}
TOKEN = re.compile(r"\\cite[tp](?:\[[^]]*\])*|\\[A-Za-z]+ ?|\\.|---?|[{}$~^]|[^\\{}$~^-]+|-", flags=re.DOTALL)


class Text(NamedTuple):
    """What LaTeX is turned into HTML with.

    macros: those of numbers.tex. works: what is cited, by its keys. anchors: labels, as tab:scores, and the ids of what
    they are on the page; what is not there is named without a link.
    """

    macros: Mapping[str, str] = {}
    works: Mapping[str, Work] = {}
    anchors: Mapping[str, str] = {}

    def html(self, latex: str) -> str:
        r"""Return inline LaTeX as HTML.

        >>> print(Text().html(r"\textbf{0.51}$^{=}$, $-$2{,}000 of a \& b, 95\%"))
        <strong>0.51</strong><sup>=</sup>, −2,000 of a &amp; b, 95%
        """
        return "".join(self._pieces(iter(TOKEN.findall(latex)), math=False))

    def words(self, latex: str) -> str:
        """Return inline LaTeX as plain words, for what is no element: a title, a label."""
        return unescape(re.sub(r"<[^>]+>", "", self.html(latex)))

    def _pieces(self, tokens: Iterator[str], math: bool) -> Iterator[str]:
        for token in tokens:
            if token == "}":
                return
            if token == "{":
                yield from self._pieces(tokens, math)
            elif token == "$":
                # Every formula is a symbol, a letter or a power: letters are set in italics, and that is all.
                inner = _until_dollar(tokens)
                yield re.sub(r"^[A-Za-z]$", r"<i>\g<0></i>", "".join(self._pieces(iter(inner), math=True)))
            elif token == "^":
                yield f"<sup>{self._argument(tokens, math)}</sup>"
            elif token[0] == "\\":
                yield self._command(token[1:].strip(), tokens, math)
            elif math and token == "-":
                yield "\N{MINUS SIGN}"
            else:
                yield LIGATURES.get(token) or escape(token, quote=False)

    def _argument(self, tokens: Iterator[str], math: bool = False) -> str:
        if (first := next(tokens)) != "{":
            raise ValueError(f"{first!r} stands where a group was to begin")
        return "".join(self._pieces(tokens, math))

    def _command(self, name: str, tokens: Iterator[str], math: bool) -> str:
        if name in STYLES:
            return f"<{STYLES[name]}>{self._argument(tokens, math)}</{STYLES[name]}>"
        if name in SYMBOLS:
            return escape(SYMBOLS[name], quote=False)
        if name in self.macros:
            return self.html(self.macros[name])
        if name == "textcolor":
            return f'<span class="{self._argument(tokens)}">{self._argument(tokens)}</span>'
        if name == "ref":
            label = self._argument(tokens)
            words = escape(label.partition(":")[2].replace("-", " "), quote=False)
            return f'<a href="#{self.anchors[label]}">{words}</a>' if label in self.anchors else words
        if name.startswith("cite"):
            before = f"{name[6:].partition(']')[0]} " if "[" in name else ""  # \citep[before][after]{key}
            keys = [key.strip() for key in self._argument(tokens).split(",")]
            return self._cited(keys, name.startswith("citep"), before)
        if not name.isalpha():
            return escape(name, quote=False)
        raise ValueError(f"no HTML for \\{name}")

    def _cited(self, keys: list[str], in_brackets: bool, before: str) -> str:
        links = [
            f'<a href="#work-{key}">{self.works[key].authors} '
            + (f"{self.works[key].year}</a>" if in_brackets else f"({self.works[key].year})</a>")
            for key in keys
        ]
        return f"({before}{'; '.join(links)})" if in_brackets else before + ", ".join(links)


def _until_dollar(tokens: Iterator[str]) -> list[str]:
    inner = []
    for token in tokens:
        if token == "$":
            return inner
        inner.append(token)
    raise ValueError("a formula has no end")


def macros(numbers: str) -> dict[str, str]:
    """Return the macros of numbers.tex by their names."""
    return {name: group(numbers, end) for name, end in _ends(r"\\newcommand\{\\(\w+)\}", numbers)}


def captions(sections: str) -> dict[str, str]:
    r"""Return the captions of \figureof by the kinds of figures, in the order of the text."""
    return {
        kind: " ".join(group(sections, end).split()) for kind, end in _ends(r"\\figureof\{([\w-]+)\}(?=\{)", sections)
    }


def items(latex: str) -> list[str]:
    r"""Return the items of a list, or the whole where it is none."""
    found = re.split(r"\\item ", re.sub(r"\\(?:begin|end)\{itemize\}", "", latex))
    return [item.strip() for item in found if item.strip()]


def group(latex: str, start: int) -> str:
    """Return what stands between the brace at `start` and the one that closes it."""
    depth = 0
    for found in re.finditer(r"\\.|[{}]", latex[start:]):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if not depth:
            return latex[start + 1 : start + found.start()]
    raise ValueError(f"no end of the group at {latex[start : start + 40]!r}")


def _ends(pattern: str, latex: str) -> Iterator[tuple[str, int]]:
    for found in re.finditer(pattern, latex):
        yield found[1], found.end()
