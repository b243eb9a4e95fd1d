"""Things that are known by name and live one to a file of a package."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Generic, TypeVar

from peftstudy.errors import unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """The classes of one package by their registered names; a new file joins unasked."""

    def __init__(self, package: str, kind: str):
        self.package, self.kind = package, kind
        self._classes: dict[str, type[T]] = {}

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
        """Return every registered class, sorted by name; imports each module of the package once."""
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        return dict(sorted(self._classes.items()))

    def find(self, name: str, where: str) -> type[T]:
        """Return the class of that name; an unknown one is a StudyError with the nearest spelling."""
        known = self.all()
        if name not in known:
            raise unknown(where, self.kind, name, known)
        return known[name]
