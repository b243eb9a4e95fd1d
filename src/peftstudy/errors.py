"""The one kind of error that a user is meant to read."""

from collections.abc import Iterable
from difflib import get_close_matches


class StudyError(Exception):
    """One sentence: the file, the key or row, what was found, what is known, how to mend it.

    The command line prints it without a traceback and ends with exit code 1.
    """


def unknown(where: str, kind: str, found: str, known: Iterable[str]) -> StudyError:
    """Return the error for a name that is not among the known ones, with the nearest spelling.

    >>> print(unknown("config.yaml: methods.lora", "option", "rnak", ["rank", "alpha"]))
    config.yaml: methods.lora: unknown option 'rnak' (known: alpha, rank). Did you mean 'rank'?
    """
    known = sorted(known)
    near = get_close_matches(found, known, n=1)
    hint = f". Did you mean {near[0]!r}?" if near else "."
    return StudyError(f"{where}: unknown {kind} {found!r} (known: {', '.join(known) or 'none'}){hint}")
