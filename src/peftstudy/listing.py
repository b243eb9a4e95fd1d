"""The table of `peftstudy methods`."""

from collections.abc import Mapping, Sequence
from typing import Any

from peftstudy.families import FAMILIES
from peftstudy.methods import LEFT_OUT, ORIGINS, Method, registered
from peftstudy.shapes import Shape, planned_shape


def methods_table(shape: Shape | None = None, methods: Mapping[str, type[Method]] | None = None) -> str:
    """Return a row a method: what it trains, its options with defaults, its learning rates, its source.

    shape: adds the parameters that each trains on such a backbone, the head not counted.
    methods: all that are registered, unless given.
    """
    methods = registered() if methods is None else methods
    rows = [("method", "trains", "options", "learning rates", *(["parameters"] if shape else []), "source")]
    for name, method in methods.items():
        cells = [name, method.trains, _options(method), " ".join(f"{rate:g}" for rate in method.learning_rates)]
        if shape:
            cells.append(_parameters(method(), shape))
        rows.append((*cells, method.citation))
    return _aligned(rows)


def limits_table(methods: Mapping[str, type[Method]] | None = None) -> str:
    """Return what is impossible: a row a method and family or task, with the reason, then what is left out for all.

    Of the methods with their default options, on bodies as large as published ones.
    """
    methods = registered() if methods is None else methods
    rows = [("method", "family or task", "impossible, for")]
    for name, method in methods.items():
        for family in FAMILIES:
            if reason := method().skip(planned_shape(family, {}, 30522)):
                rows.append((name, family, reason))
        rows += [(name, task, reason) for task, reason in method.not_for.items()]
    rows += [(name, "any", reason) for name, reason in LEFT_OUT.items()]
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def _options(method: type[Method]) -> str:
    options = dict.fromkeys(ORIGINS if method.least_origins else (), "…") | method.options()
    return " ".join(f"{name}={_value(value)}" for name, value in options.items()) or "-"


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
