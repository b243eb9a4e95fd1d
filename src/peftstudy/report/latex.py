"""LaTeX by hand: escaped text, numbers, and booktabs floats."""

import math
from collections.abc import Sequence

import numpy as np

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "\N{MINUS SIGN}": r"$-$", "\N{MULTIPLICATION SIGN}": r"$\times$", "≥": r"$\ge$",
    "≤": r"$\le$", "±": r"$\pm$", "…": r"\dots{}", "\N{EN DASH}": "--", "\N{EM DASH}": "---",
}  # fmt: skip
NONE = "--"


def escape(text: object) -> str:
    r"""Return text as LaTeX shows it; control characters become spaces.

    >>> print(escape("90% of a_b & {c}"))
    90\% of a\_b \& \{c\}
    """
    return "".join(SPECIAL.get(c, c if c.isprintable() and c < "\u0180" else _named(c)) for c in str(text))


def _named(character: str) -> str:
    # pdflatex stops at a character that its fonts lack; a label or an error message may hold any.
    return f"[U+{ord(character):04X}]" if character.isprintable() else " "


def shortened(text: object, most: int) -> str:
    """Return text in LaTeX, cut after so many characters."""
    text = " ".join(str(text).split())
    return escape(text if len(text) <= most else text[: most - 1] + "…")


def absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def score(value: float | None, digits: int = 3) -> str:
    """Return a score or a difference with fixed digits and a true minus; never a negative zero.

    >>> score(-0.00004), score(-0.25), score(None)
    ('0.000', '$-$0.250', '--')
    """
    if absent(value):
        return NONE
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "$-$")


def bounds(low: float | None, high: float | None, digits: int = 3) -> str:
    """Return an interval in brackets, or nothing where there is none."""
    return "" if absent(low) or absent(high) else f"[{score(low, digits)}, {score(high, digits)}]"


def estimate(mean: float | None, low: float | None, high: float | None, digits: int = 3) -> str:
    return f"{score(mean, digits)} {bounds(low, high, digits)}".rstrip()


def count(value: float | None) -> str:
    """Return a whole number with thousands apart."""
    return NONE if absent(value) else f"{round(value):,}".replace(",", "{,}")


def amount(value: float | None) -> str:
    """Return a measured amount with three digits that count, without exponents.

    >>> amount(1234.5), amount(12.345), amount(0.0123), amount(0.0000123), amount(0)
    ('1{,}234', '12.3', '0.012', '0.000012', '0')
    """
    if absent(value):
        return NONE
    if abs(value) >= 100:
        return count(value)
    if abs(value) >= 0.1:
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")


def share(value: float | None) -> str:
    r"""Return a share in percent, with digits enough to tell small ones apart.

    >>> share(0.996), share(0.0045), share(0.0000085), share(0)
    ('99.6\\%', '0.45\\%', '0.00085\\%', '0\\%')
    """
    if absent(value):
        return NONE
    percent = 100 * value
    if 0 < percent < 0.01:
        return np.format_float_positional(percent, precision=2, fractional=False, trim="-") + r"\%"
    text = f"{percent:.{1 if percent >= 1 else 2}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + r"\%"


def rate(value: float | None) -> str:
    """Return a learning rate as a power of ten.

    >>> rate(0.0005), rate(0.001)
    ('$5\\\\times10^{-4}$', '$10^{-3}$')
    """
    if absent(value):
        return NONE
    mantissa, exponent = f"{value:.6e}".split("e")
    mantissa = f"{float(mantissa):g}"
    return f"${'' if mantissa == '1' else mantissa + chr(92) + 'times'}10^{{{int(exponent)}}}$"


def p_value(value: float | None) -> str:
    if absent(value):
        return NONE
    return "$<$0.001" if value < 0.001 else f"{value:.3f}"


def relation(p: float) -> str:
    """Return a p value with its relation, for a sentence.

    >>> relation(0.0001), relation(0.04)
    ('$<$~0.001', '=~0.040')
    """
    return "$<$~0.001" if p < 0.001 else f"=~{p:.3f}"


def group(text: str, columns: int) -> str:
    """Return a row that names the rows below it, and stays with the first of them where a page ends."""
    return rf"\multicolumn{{{columns}}}{{@{{}}l}}{{\emph{{{text}}}}}\\*"


def tabular(columns: str, header: Sequence[Sequence[str]], rows: Sequence[Sequence[str] | str], rules: str = "") -> str:
    """Return a booktabs tabular; a row that is one string stands as it is (a group's name, a rule).

    header: one list of cells a line, already LaTeX. rules: a cmidrule line below the first header line.
    """
    lines = [" & ".join(line) + r"\\" for line in header]
    if rules:
        lines.insert(1, rules)
    body = [row if isinstance(row, str) else " & ".join(row) + r"\\" for row in rows]
    return "\n".join(
        [rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule", *lines, r"\midrule", *body, r"\bottomrule",
         r"\end{tabular}"]
    )  # fmt: skip


def floating(content: str, caption: str, label: str, size: str = "footnotesize") -> str:
    """Return a table float: the caption above, as tables have it."""
    return "\n".join(
        [r"\begin{table}[htbp]", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}", rf"\{size}",
         r"\setlength{\tabcolsep}{4pt}", content, r"\end{table}", ""]
    )  # fmt: skip
