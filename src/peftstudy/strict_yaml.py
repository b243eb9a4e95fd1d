"""A configuration's file, read more strictly than YAML asks for."""

from pathlib import Path
from typing import Any

import yaml

from peftstudy.errors import StudyError
from peftstudy.schema import in_words


def load(path: Path | str) -> dict[str, Any]:
    """Return the mapping in a YAML file; what YAML lets pass in silence (a key twice) is a StudyError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as text ({error}).") from None
    try:
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader), path, set())
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _not_yaml(error, path) from None
    if not isinstance(config, dict):
        raise StudyError(f"{path}: found {in_words(config)}, want a block of keys.")
    return config


def _not_yaml(error: yaml.YAMLError, path: Path | str) -> StudyError:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    at = f"{path}: line {mark.line + 1}" if mark else str(path)
    if "'\\t'" in problem:
        return StudyError(f"{at}: found a tab; YAML is indented with spaces.")
    return StudyError(f"{at}: not YAML ({' '.join(problem.split())}).")


def _refuse_repeated_keys(node: yaml.Node | None, path: Path | str, seen: set[int]) -> None:
    if id(node) in seen:  # an alias, which may stand within its own anchor
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_keys(item, path, seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and lines.setdefault(key.value, line) != line:
                first = lines[key.value]
                raise StudyError(f"{path}: line {line}: the key {key.value!r} stands in line {first} already.")
            _refuse_repeated_keys(value, path, seen)
