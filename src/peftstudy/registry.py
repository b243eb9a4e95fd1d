"""Things that are known by name and live one to a file of a package."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from peftstudy import files
from peftstudy.errors import StudyError, unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """The classes of one package by their registered names; a new file joins unasked.

    So do the modules that other installed packages name as entry points, in the group of the package's name,
    and single files outside any package, by their paths.
    """

    def __init__(self, package: str, kind: str, listed_by: str = "", usual: Mapping[str, str] | None = None):
        """Begin with nothing imported.

        listed_by: the command that lists all there are, for errors. usual: what some are called elsewhere, for errors.
        """
        self.package, self.kind, self.listed_by, self.usual = package, kind, listed_by, usual
        self._classes: dict[str, type[T]] = {}
        self._files: dict[Path, type[T]] = {}
        self._by_content: dict[str, type[T]] = {}
        self._is_imported = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Return the decorator that files a class under `name` (kebab-case: it becomes part of a path)."""

        def file(cls: type[T]) -> type[T]:
            if name in self._classes:
                raise ValueError(f"two {self.kind}s are registered as {name!r}")
            cls.name = name
            self._classes[name] = cls
            return cls

        return file

    def all(self) -> dict[str, type[T]]:
        """Return every registered class but those of files, sorted by name; imports each module once."""
        if not self._is_imported:
            self._import()
        own = set(self._files.values())
        return {name: cls for name, cls in sorted(self._classes.items()) if cls not in own}

    def _import(self) -> None:
        """Import the package's modules and the entry points, which are in the metadata of every installed package."""
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        for entry in entry_points(group=self.package):
            entry.load()
        self._is_imported = True

    def find(self, name: str, where: str) -> type[T]:
        """Return the class of that name, or of the file of that path.

        A StudyError tells the nearest spelling of an unknown name, or what is wrong with the file.
        """
        known = self.all()
        if name.endswith(".py"):
            return self._of_file(Path(name).expanduser().resolve(), where if where == name else f"{where}: {name}")
        if name not in known:
            raise unknown(where, self.kind, name, known, self.listed_by, self.usual)
        return known[name]

    def file_of(self, cls: type[T]) -> Path | None:
        """Return the file of your own that a class is from; None where it is from none."""
        return next((path for path, own in self._files.items() if own is cls), None)

    def _of_file(self, path: Path, where: str) -> type[T]:
        content = files.sha256(path) if path.exists() else ""
        if path not in self._files and content in self._by_content:
            self._files[path] = self._by_content[content]  # such as the copy that a published folder has
        if path not in self._files:
            before = set(self._classes)
            spec = importlib.util.spec_from_file_location(f"{self.package}_of_{path.stem}", path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # dataclasses look their module up there
            try:
                spec.loader.exec_module(module)
            except FileNotFoundError:
                raise StudyError(f"{where}: no such file.") from None
            except Exception as error:  # whatever a user's file raises
                raise StudyError(f"{where}: cannot be imported ({type(error).__name__}: {error}).") from error
            new = sorted(set(self._classes) - before)
            if len(new) != 1:
                found = ", ".join(new) or "none"
                raise StudyError(f"{where}: registers {found}; a file of your own holds one {self.kind}.")
            self._files[path] = self._by_content[content] = self._classes[new[0]]
        return self._files[path]


def code_of(name: str, options: Mapping[str, Any]) -> str:
    """Return what is known of a method by its files, where they are your own: their SHA-256; '' without any.

    name: the method's, or its file's path. options: of the configuration; they may name parts in files as well.
    """
    parts = options.get("parts", ())
    parts = parts if isinstance(parts, list | tuple | Mapping) else ()  # what is amiss there is told by its method
    own = [name, *(part[0] if isinstance(part, list | tuple) and part else part for part in parts)]
    paths = [Path(named).expanduser() for named in own if isinstance(named, str) and named.endswith(".py")]
    return "+".join(files.sha256(path) for path in paths if path.exists())
