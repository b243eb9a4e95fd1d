"""The tables of `peftstudy methods`, and what it says of one method."""

import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peftstudy import tasks
from peftstudy.families import FAMILIES
from peftstudy.methods import LEFT_OUT, ORIGINS, Method, registered
from peftstudy.shapes import Shape, planned_shape

WIDTH, FEW = 120, 24
"""Characters of a line of text, and of a cell that lists names."""


def methods_table(shape: Shape | None = None, methods: Mapping[str, type[Method]] | None = None) -> str:
    """Return a row a method: what it trains, the families and tasks that it can do, its source.

    shape: adds the parameters that each trains on such a backbone, the head not counted.
    methods: all that are registered, unless given.
    """
    methods = registered() if methods is None else methods
    rows = [("method", "trains", "families", "tasks", "source", *(["parameters"] if shape else []))]
    for name, method in methods.items():
        families = _few(FAMILIES, _without(method)[0])
        cells = [name, method.trains, families, _few(tasks.registered(), _without(method)[1]), method.citation]
        rows.append((*cells, *([_parameters(method(), shape)] if shape else [])))
    return _aligned(rows)


def options_table(methods: Mapping[str, type[Method]] | None = None) -> str:
    """Return a row a method: its options with their defaults, and the learning rates of its search."""
    methods = registered() if methods is None else methods
    rows = [("method", "options", "learning rates")]
    rows += [(name, _options(method), _rates(method)) for name, method in methods.items()]
    return _aligned(rows)


def limits_table(methods: Mapping[str, type[Method]] | None = None) -> str:
    """Return what is impossible: a row a method and family or task, with the reason, then what is left out for all.

    Of the methods with their default options, on bodies as large as published ones.
    """
    methods = registered() if methods is None else methods
    rows = [("method", "family or task", "impossible, for")]
    for name, method in methods.items():
        rows += [(name, where, reason) for without in _without(method) for where, reason in without.items()]
    rows += [(name, "any", reason) for name, reason in LEFT_OUT.items()]
    return _aligned(rows)


def method_page(method: type[Method]) -> str:
    """Return what is to know of one method: what it does, its options with what the papers had, its limits."""
    about = re.split(_openings(method), inspect.cleandoc(method.__doc__ or ""), maxsplit=1)[0]
    values, said, start = method.options(), described(method), method().start
    parts = [_wrapped(part) for part in about.split("\n\n")]
    parts.append(_listed({"trains": method.trains, "learning rates": _rates(method), "source": method.citation}))
    parts.append(_listed({f"{name}={_value(values[name])}": said.get(name, "-") for name in values}))
    parts.append(_wrapped(f"Untrained, it gives other outputs than the backbone: {start}.") if start else "")
    limits = limits_table({method.name: method}).splitlines()[: 1 + sum(map(len, _without(method)))]
    parts.append("\n".join(limits) if len(limits) > 1 else "It is possible for every family and task.")
    return "\n\n".join(part for part in parts if part) + "\n"


def described(method: type[Method]) -> dict[str, str]:
    """Return what a method's docstring, or that of a class that it extends, says of each option: the nearest does.

    A docstring ends with its options, each at the start of a line: its name, a colon, what it is, what the paper had.
    """
    said: dict[str, str] = {}
    for cls in reversed(method.__mro__):
        parts = re.split(_openings(method), inspect.cleandoc(vars(cls).get("__doc__") or ""))
        for names, words in zip(parts[1::2], parts[2::2], strict=True):
            said |= dict.fromkeys(names.split(", "), " ".join(words.split()))
    return {name: said[name] for name in method.options() if name in said}


def _openings(method: type[Method]) -> str:
    """Return the regular expression of what opens the description of an option, or of several at once."""
    names = "|".join(map(re.escape, method.options())) or r"\0"
    return rf"(?m)^((?:{names})(?:, (?:{names}))*): "


def _without(method: type[Method]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the families and the tasks that are impossible, with the reasons."""
    made = method()
    shapes = {family: planned_shape(family, {}, 30522) for family in FAMILIES}
    families = {family: reason for family, shape in shapes.items() if (reason := made.skip(shape))}
    return families, {task: reason for task in tasks.registered() if (reason := made.cannot(task))}


def _few(names: Iterable[str], without: Iterable[str]) -> str:
    """Return names but some in a few words: all, all but those, the others, or how many.

    >>> _few("abcde", ""), _few("abcde", "b"), _few("abcde", "abcd")
    ('all', 'all but b', 'e')
    >>> _few(["classification", "regression", "generation", "infilling"], ["generation", "regression"])
    '2 of 4'
    """
    every, without = list(names), list(without)
    able = [name for name in every if name not in without]
    if not without:
        return "all"
    either = min(f"all but {', '.join(without)}", ", ".join(able), key=len)
    return either if len(either) <= FEW else f"{len(able)} of {len(every)}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH)


def _listed(words: Mapping[str, str]) -> str:
    """Return names, and beside them what is said of each."""
    margin = max(map(len, words), default=0) + 2
    lines = [
        textwrap.fill(text, WIDTH, initial_indent=name.ljust(margin), subsequent_indent=" " * margin)
        for name, text in words.items()
    ]
    return "\n".join(lines)


def _options(method: type[Method]) -> str:
    options = dict.fromkeys(ORIGINS if method.least_origins else (), "…") | method.options()
    return " ".join(f"{name}={_value(value)}" for name, value in options.items()) or "-"


def _rates(method: type[Method]) -> str:
    return " ".join(f"{rate:g}" for rate in method.learning_rates)


def _value(value: Any) -> str:
    """Return an option's value as the configuration writes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _parameters(method: Method, shape: Shape) -> str:
    reason = method.skip(shape)
    return f"impossible: {reason}" if reason else f"{method.count(shape):,}"
