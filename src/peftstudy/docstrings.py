"""The embedded text: docstrings of the environment's own locked packages, read without importing them.

The same lock gives the same rows on every machine. So only packages are read that the lock names once
and for all platforms, of these only files that every build of the version contains, and nothing that
differs between Python 3.11 and 3.13 is left to the standard library (`inspect.cleandoc` does differ).
"""

import ast
import io
import re
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import pandas as pd

from peftstudy.errors import StudyError, unknown
from peftstudy.files import sha256_json

COLUMNS = (
    "id", "part", "package", "library", "kind", "summary", "summary_masked", "docstring", "parameters", "body",
)  # fmt: skip
MASK = "library"
BODY_CHARACTERS = 2_000
MINIMUM_WORDS = 6
UNLOCKED = ("torch",)
"""Read though the lock leaves it out, because its builds (CPU, CUDA) are chosen by platform; their
Python files are the same but for version.py."""

NOT_READ = ("multiprocess", "alembic", "colorlog", "mako", "optuna")
"""Locked, but not read. Each build of multiprocess is a copy of another Python's standard library. Optuna, and what it
alone needs, came to the lock after the default study's results were published: they would change its text."""

# Names under which readers know a library besides its distribution and its import name.
ALIASES = (
    "hf", "huggingface", "hugging face", "matplotlib.pyplot", "mpl", "networkxs", "np", "nx", "pd", "plt", "pypi",
    "pytorch", "scikit", "scikits", "sk", "sns", "sp", "torchaudio", "torchscript", "torchvision",
)  # fmt: skip

# Tests, vendored copies, and numpy.distutils, which only the builds for Python 3.11 contain.
SKIPPED_FOLDERS = frozenset(
    {"_vendor", "_vendored", "extern", "external", "externals", "third_party", "vendor", "vendored"}
    | {"distutils", "test", "testing", "tests"}
)
SKIPPED_FILES = re.compile(r"(test_.*|.*_test|conftest|__config__|_?version|_version_.*|_generated_.*)\.py")


class Definition(NamedTuple):
    """A module, class, function or method that has a docstring."""

    name: str
    kind: str
    docstring: str
    parameters: tuple[str, ...]
    body: str


def locked(path: Path) -> list[str]:
    """Return the distributions that a requirements.lock names for every platform at one version.

    A name with a marker (`; sys_platform == ...`) is left out: it is not on every machine, or not
    everywhere at the same version.
    """
    if not path.is_file():
        raise StudyError(f"{path}: no such file; the docstrings are those of the packages that it locks.")
    lines = path.read_text(encoding="utf-8").splitlines()
    pins = [re.match(r"([A-Za-z0-9._-]+)==[^\s;]+\s*(;?)", line) for line in lines]
    names = sorted({_normal(pin[1]) for pin in pins if pin and not pin[2]} - set(NOT_READ))
    if not names:
        raise StudyError(f"{path}: locks no package (lines of the form name==version were looked for).")
    return names


def harvest(packages: Sequence[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the docstrings of installed distributions, a row each, and their manifest.

    Columns: see COLUMNS; `summary` is the first paragraph, in `summary_masked` the libraries' names
    are masked. Left out are private definitions, summaries of fewer than six words and repeats of a masked summary.
    Raises StudyError for a distribution that is not installed.
    """
    found = {name: _distribution(name, packages) for name in sorted({_normal(name) for name in packages})}
    files = {name: _python_files(distribution) for name, distribution in found.items()}
    mask = _mask(found, files)
    rows: list[dict[str, str]] = []
    summaries: set[str] = set()
    dropped: Counter[str] = Counter()
    manifest: dict[str, Any] = {}
    for name, distribution in found.items():
        start = len(rows)
        for row in _package_rows(name, distribution, files[name], dropped):
            row["summary_masked"] = mask.sub(MASK, row["summary"])
            if row["summary_masked"].casefold() in summaries:
                dropped["repeated summary"] += 1
                continue
            summaries.add(row["summary_masked"].casefold())
            rows.append(row)
        part = rows[start:]
        version = distribution.version.partition("+")[0]
        manifest[name] = {"version": version, "count": len(part), "sha256": sha256_json(part)}
    if not rows:
        raise StudyError(f"docstrings: none were found in {', '.join(found)}; name other packages.")
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    total = sha256_json({name: entry["sha256"] for name, entry in manifest.items()})
    return frame, {"packages": manifest, "dropped": dict(sorted(dropped.items())), "sha256_rows": total}


def definitions(source: bytes) -> Iterator[Definition]:
    """Yield what has a docstring in a Python file, in the order of the file.

    Raises SyntaxError, ValueError or RecursionError when the file does not parse as Python 3.11.
    """
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    text = source.decode(encoding).replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(text, feature_version=(3, 11))
    yield from _walk(tree, "", text.split("\n"))


def clean(text: str) -> str:
    """Return text without the indentation that its lines share, and without blank ends.

    The first line is not counted, as in a docstring.
    """
    first, *rest = (line.rstrip() for line in text.expandtabs().split("\n"))
    margin = min((len(line) - len(line.lstrip(" ")) for line in rest if line), default=0)
    joined = "\n".join([first.strip(), *(line[margin:] for line in rest)]).strip("\n ")
    return joined.encode("utf-8", "replace").decode("utf-8")


def summary(docstring: str) -> str:
    """Return the first paragraph of a cleaned docstring on one line; empty when it is no English prose."""
    paragraph = re.split(r"\n\s*\n|\n\s*(?=[-=~*#]{3,}\n|>>>|\.\. |:param|Args:)", docstring, maxsplit=1)[0]
    folded = " ".join(paragraph.split())
    if folded.startswith((">>>", ".. ", ":param", "Args:", "$", "http", "Copyright")):
        return ""
    words = re.findall(r"(?<![\w.])[A-Za-z][A-Za-z'-]*(?![\w(])", folded)
    letters = sum(character.isascii() and (character.isalpha() or character == " ") for character in folded)
    return folded if len(words) >= MINIMUM_WORDS and letters >= 0.7 * len(folded) else ""


def _walk(node: ast.AST, prefix: str, lines: list[str]) -> Iterator[Definition]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        docstring = ast.get_docstring(node, clean=False)
        if docstring is not None:
            yield Definition(prefix, _kind(node), clean(docstring), _parameters(node), _body(node, lines))
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            name = getattr(child, "name", None) if not isinstance(child, ast.ExceptHandler) else None
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                child.in_class = isinstance(node, ast.ClassDef)  # type: ignore[union-attr]
            yield from _walk(child, f"{prefix}.{name}".lstrip(".") if name else prefix, lines)


def _kind(node: ast.AST) -> str:
    if isinstance(node, ast.Module):
        return "module"
    if isinstance(node, ast.ClassDef):
        return "class"
    return "method" if node.in_class else "function"  # type: ignore[attr-defined]


def _parameters(node: ast.AST) -> tuple[str, ...]:
    """Return the names of a function's parameters, or of a class's `__init__`, without self and cls."""
    if isinstance(node, ast.ClassDef):
        made = [child for child in node.body if isinstance(child, ast.FunctionDef) and child.name == "__init__"]
        return _parameters(made[0]) if made else ()
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return ()
    given = node.args
    named = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    names = [argument.arg for argument in named if argument is not None]
    return tuple(names[1:] if names[:1] in (["self"], ["cls"]) else names)


def _body(node: ast.AST, lines: list[str]) -> str:
    """Return the source of a definition without decorators and docstring, cut at BODY_CHARACTERS."""
    docstring = node.body[0]  # type: ignore[attr-defined]
    head, last = (
        ([], len(lines))
        if isinstance(node, ast.Module)
        else (lines[node.lineno - 1 : docstring.lineno - 1], node.end_lineno)
    )
    kept = [line.rstrip() for line in head + lines[docstring.end_lineno : last]]
    margin = min((len(line) - len(line.lstrip(" ")) for line in kept if line), default=0)
    text = "\n".join(line[margin:] for line in kept).strip("\n")[:BODY_CHARACTERS]
    return text.encode("utf-8", "replace").decode("utf-8")


def _package_rows(
    name: str, distribution: metadata.Distribution, files: list[PurePath], dropped: Counter[str]
) -> Iterator[dict[str, str]]:
    """Yield the rows of one distribution, still unmasked; count in `dropped` what is left out and why."""
    seen: Counter[str] = Counter()
    for file in files:
        try:
            found = list(definitions(Path(str(distribution.locate_file(file))).read_bytes()))
        except (SyntaxError, ValueError, RecursionError):
            dropped["file that does not parse"] += 1
            continue
        parts = file.with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for definition in found:
            if re.search(r"(^|\.)_(?!_)", definition.name):
                dropped["private"] += 1
                continue
            first = summary(definition.docstring)
            if not first:
                dropped["short or no prose"] += 1
                continue
            identity = f"{name}/{module}:{definition.name}"
            seen[identity] += 1
            if seen[identity] > 1:
                identity += f"#{seen[identity]}"
            yield {
                "id": identity, "part": "all", "package": name, "library": parts[0], "kind": definition.kind,
                "summary": first, "docstring": definition.docstring,
                "parameters": " ".join(definition.parameters), "body": definition.body,
            }  # fmt: skip


def _python_files(distribution: metadata.Distribution) -> list[PurePath]:
    """Return a distribution's own library files, sorted: no tests, vendored copies or build records."""
    files = [PurePath(str(file)) for file in distribution.files or () if str(file).endswith(".py")]
    kept = [
        file
        for file in files
        if not SKIPPED_FOLDERS.intersection(file.parts[:-1]) and not SKIPPED_FILES.fullmatch(file.name)
        and file.parts[0] != ".." and "site-packages" not in file.parts
    ]  # fmt: skip
    return sorted(kept, key=PurePath.as_posix)


def _mask(found: dict[str, metadata.Distribution], files: dict[str, list[PurePath]]) -> re.Pattern[str]:
    """Return the pattern of every library's names, as whole words or as parts of dotted and joined names."""
    names = {alias for alias in ALIASES}
    for name in found:
        names |= {name, name.replace("-", "_"), name.replace("-", " ")}
        names |= {file.with_suffix("").parts[0].lstrip("_") for file in files[name]}
    names = {name.lower() for name in names if len(name) > 2 or name in ALIASES}
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile(rf"(?<![a-z0-9])(?:{'|'.join(map(re.escape, longest_first))})(?![a-z0-9])", re.I | re.A)


def _distribution(name: str, packages: Sequence[str]) -> metadata.Distribution:
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        installed = {_normal(other.name) for other in metadata.distributions()}
        if name in map(_normal, UNLOCKED) or len(packages) > 40:
            raise StudyError(f"docstrings: {name} is not installed; make the environment anew.") from None
        near = get_close_matches(name, installed, n=5)
        raise unknown("docstrings", "package", name, near) from None
    if found.files is None:
        raise StudyError(f"docstrings: {name} has no list of its files; install it anew with pip.")
    return found


def _normal(name: str) -> str:
    """Return a distribution's name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
