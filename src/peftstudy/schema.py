"""What the configuration's schema finds wrong, in one sentence that says what was found and what is wanted."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from peftstudy.errors import StudyError, unknown
from peftstudy.provenance import ROOT

SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"

PATTERNS = {
    "^[a-z0-9]+(-[a-z0-9.]+)*$": "small letters and digits, joined by hyphens (size-500)",
    "^[^/]+/[^/]+$": "owner/name",
    "\\S": "a word, or several",
    "^[0-9a-f]{40}$": "a full commit hash, 40 digits of 0-9 and a-f",
    "^([0-9]{1,2}-[0-9]{1,2}|size-[0-9]+|official(-[1-9][0-9]?)?)$": (
        "train-test in percent (90-10), size-N (size-500), official or official-N (official-30)"
    ),
}
"""What each pattern of the schema asks for, in words."""

TYPES = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a block of keys",
}

MOST_SEEDS = 20
"""So many a sentence may name."""

BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "minItems": "at least {}",
    "maxItems": "at most {}",
}


@cache
def _validator() -> Any:
    # JSON Schema takes 1.0 for an integer; as a seed it would name another folder than 1.
    checker = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    kind = validators.extend(Draft202012Validator, type_checker=checker)
    return kind(yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))


def refuse(config: Mapping[str, Any], where: str) -> None:
    """Raise a StudyError for the first place, in the configuration's order, where it is not as the schema says.

    where: opens the sentence; the file's name.
    """
    _refuse_odd_values(config, where, ())
    errors = list(_validator().iter_errors(config))
    if errors:
        raise _sentence(min(errors, key=lambda error: _order(error, config)), config, where)


def place(where: str, path: Iterable[str | int]) -> str:
    """Return file and key as a sentence opens with them.

    >>> place("config.yaml", ["datasets", "imdb", "text", 1])
    'config.yaml: datasets.imdb.text, item 2'
    """
    keys, items = [], ""
    for part in path:
        if isinstance(part, int):
            items += f", item {part + 1}"
        else:
            keys.append(part)
    return f"{where}: {'.'.join(keys)}{items}" if keys else where


def _refuse_odd_values(value: Any, where: str, path: tuple[str | int, ...]) -> None:
    """Refuse what YAML can say and JSON Schema cannot see: keys that are no text, and numbers without a value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise StudyError(f"{place(where, path)}: the key {key!r} is {in_words(key)}; put it in quotes.")
            _refuse_odd_values(item, where, (*path, key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _refuse_odd_values(item, where, (*path, number))
    elif isinstance(value, float) and not math.isfinite(value):
        raise StudyError(f"{place(where, path)}: found {value}; a finite number is needed.")


def _order(error: ValidationError, config: Any) -> tuple[list[int], bool]:
    """Return where the error stands; at one place a misspelt key comes before the missing one that it was meant for."""
    positions = []
    for part in error.absolute_path:
        positions.append(part if isinstance(part, int) else list(config).index(part))
        config = config[part]
    return positions, error.validator != "additionalProperties"


def _sentence(error: ValidationError, config: Any, where: str) -> StudyError:
    at = place(where, error.absolute_path)
    value, wanted = error.instance, error.validator_value
    if "propertyNames" in error.schema_path:
        return StudyError(f"{at}: the name {value!r} cannot be part of a path; want {PATTERNS[wanted]}.")
    match error.validator:
        case "additionalProperties":
            known = error.schema["properties"]
            return unknown(at, "key", next(key for key in value if key not in known), known)
        case "required":
            return StudyError(f"{at}: {_missing(error)}")
        case "type":
            return StudyError(f"{at}: found {in_words(value)}, want {_types(wanted)}.{_hint(value, wanted, at)}")
        case "enum":
            return unknown(at, "value", value, wanted) if isinstance(value, str) else _other(at, value, wanted)
        case "pattern":
            return StudyError(f"{at}: found {value!r}, want {PATTERNS[wanted]}.")
        case "oneOf":
            return _branch(error, config, where)
        case "uniqueItems":
            return StudyError(f"{at}: {repeated(value)!r} is listed twice.")
        case "minProperties":
            return StudyError(f"{at}: the block is empty; it needs at least one name.")
        case keyword if keyword in BOUNDS:
            size = f"{len(value)} of them" if keyword.endswith("Items") else value
            return StudyError(f"{at}: found {size}, want {BOUNDS[keyword].format(wanted)}.")
    return StudyError(f"{at}: {error.message}.")


def repeated(values: Sequence[Any]) -> Any:
    """Return the first value that was there before; None where each is there once."""
    return next((value for number, value in enumerate(values) if value in values[:number]), None)


def _missing(error: ValidationError) -> str:
    key = next(key for key in error.validator_value if key not in error.instance and f"{key!r}" in error.message)
    about = error.schema.get("properties", {}).get(key, {}).get("description", "")
    return f"the key {key!r} is missing" + (f": {about[0].lower()}{about[1:]}" if about else ".")


def _branch(error: ValidationError, config: Any, where: str) -> StudyError:
    """Speak of the one alternative that was meant: the one of that kind, or of that type."""
    at, value = place(where, error.absolute_path), error.instance
    branches = error.validator_value
    kinds = {branch.get("properties", {}).get("kind", {}).get("const"): i for i, branch in enumerate(branches)}
    if None not in kinds and isinstance(value, Mapping):
        if "kind" not in value:
            return StudyError(f"{at}: the key 'kind' is missing (known: {', '.join(sorted(kinds))}).")
        if value["kind"] not in kinds:
            return unknown(f"{at}.kind", "kind", str(value["kind"]), kinds)
        chosen = kinds[value["kind"]]
    else:
        mismatched = {e.schema_path[0]: e for e in error.context if e.validator == "type" and not e.path}
        if len(mismatched) == len(branches):
            wanted = [e.validator_value for e in mismatched.values()]
            return StudyError(f"{at}: found {in_words(value)}, want {_types(wanted)}.{_hint(value, wanted, at)}")
        chosen = next(i for i in range(len(branches)) if i not in mismatched)
    inner = [e for e in error.context if e.schema_path[0] == chosen]
    return _sentence(min(inner, key=lambda e: _order(e, config)), config, where)


def _other(at: str, value: Any, known: list[Any]) -> StudyError:
    return StudyError(f"{at}: found {in_words(value)}, want one of {', '.join(map(str, known))}.")


def in_words(value: Any) -> str:
    """Return what a value is, in a few words.

    >>> [in_words(value) for value in (None, True, 0.5, "half", [1], {})]
    ['nothing', 'the truth value true', 'the number 0.5', "the text 'half'", 'a list', 'a block of keys']
    """
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the truth value {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {value if len(value) < 60 else value[:57] + '...'!r}"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a block of keys"
    return f"the {type(value).__name__} {value}"


def _flat(types: Any) -> Iterator[str]:
    for name in [types] if isinstance(types, str) else types:
        yield from [name] if isinstance(name, str) else _flat(name)


def _types(types: Any) -> str:
    return " or ".join(dict.fromkeys(TYPES[name] for name in _flat(types)))


def _hint(value: Any, types: Any, at: str) -> str:
    """Return what to do about the words and numbers that YAML takes for something else, or that are no list yet."""
    wanted = set(_flat(types))
    if at.endswith(": seeds") and type(value) is int and 1 < value <= MOST_SEEDS:
        return f" {value} seeds are {list(range(value))}."
    if at.endswith(".files") and isinstance(value, str):
        return f" One file of all examples is {{all: {value}}}."
    if wanted & {"array", "string"} == {"array"} and isinstance(value, int | float) and not isinstance(value, bool):
        return f" A list of this one is [{value}]."
    if "string" in wanted and value is not None and not isinstance(value, list | tuple | Mapping):
        return " Put it in quotes."
    if isinstance(value, str) and wanted & {"number", "integer"}:
        try:
            return f" YAML reads {float(value):.1e} as a number." if "e" in value.lower() else " Take the quotes away."
        except ValueError:
            return ""
    return ""
