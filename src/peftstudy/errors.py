"""The one kind of error that a user is meant to read."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

MANY = 40
"""So many names a sentence may hold; of more it has the nearest."""
NEAREST = 5


class StudyError(Exception):
    """One sentence: the file, the key or row, what was found, what is known, how to mend it.

    The command line prints it without a traceback and ends with exit code 1.
    """


def unknown(
    where: str, kind: str, found: str, known: Iterable[str], listed_by: str = "", usual: Mapping[str, str] | None = None
) -> StudyError:
    """Return the error for a name that is not among the known ones, with the one that was meant.

    listed_by: the command that lists all known ones, where they may be very many. usual: what known ones are called
    elsewhere; else it is the nearest spelling that was meant.

    >>> print(unknown("config.yaml: methods.lora", "option", "rnak", ["rank", "alpha"]))
    config.yaml: methods.lora: unknown option 'rnak' (known: alpha, rank). Did you mean 'rank'?
    """
    known = sorted(known)
    meant = (usual or {}).get(found)
    near = [meant] if meant in known else get_close_matches(found, known, n=1)
    hint = f". Did you mean {near[0]!r}?" if near else "."
    return StudyError(f"{where}: unknown {kind} {found!r} (known: {_shown(found, known, listed_by)}){hint}")


def refuse_unknown(where: str, kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise the error for the first of the names that is not among the known ones."""
    known = list(known)
    for name in names:
        if name not in known:
            raise unknown(where, kind, name, known)


def _shown(found: str, known: list[str], listed_by: str) -> str:
    if len(known) <= MANY:
        return ", ".join(known) or "none"
    near = sorted(get_close_matches(found, known, n=NEAREST, cutoff=0.0))
    more = f"{', '.join(near)} and {len(known) - NEAREST} more"
    return f"{more}; '{listed_by}' lists them" if listed_by else more
