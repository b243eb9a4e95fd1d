"""Options: what a configuration says of a method, held to the fields of its class."""

import functools
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from peftstudy.errors import StudyError, unknown
from peftstudy.specs import freeze

USUAL: Mapping[str, str] = {
    "lora_alpha": "alpha", "lora_dropout": "dropout", "lr": "learning_rate", "num_virtual_tokens": "tokens",
    "r": "rank", "target_modules": "targets",
}  # fmt: skip
"""What options are called elsewhere, where the nearest spelling would be another one."""

_hints = functools.cache(typing.get_type_hints)


def arguments(
    kind: type, options: Mapping[str, Any] | Iterable[tuple[str, Any]], where: str, beside: Iterable[str]
) -> dict[str, Any]:
    """Return options as the arguments of a class, by the names of its fields.

    where: opens the sentence of a StudyError. beside: what else may stand there, and is known for errors.
    """
    values = {key: freeze(value) for key, value in dict(options).items()}
    known, hints = [field.name for field in fields(kind)], _hints(kind)
    for key, value in values.items():
        if key not in known:
            raise unknown(where, "option", key, [*known, *beside], usual=USUAL)
        if not _fits(value, hints[key]):
            said = list(value) if isinstance(value, tuple) else value
            raise StudyError(f"{where}.{key}: {said!r} is not of the type {_words(hints[key])}.")
    return values


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(item, typing.get_args(hint)[0]) for item in value)
    if typing.get_args(hint):
        return any(_fits(value, choice) for choice in typing.get_args(hint))
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, int | float if hint is float else hint)


def _words(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return f"list of {typing.get_args(hint)[0].__name__}"
    return " or ".join(
        "null" if choice is type(None) else choice.__name__ for choice in typing.get_args(hint) or [hint]
    )
