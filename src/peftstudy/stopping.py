"""Being asked to stop (a time limit, scancel, Ctrl-C): at the next step, after a checkpoint, with one line."""

import signal
from types import FrameType

from peftstudy.errors import StudyError

_asked: list[str] = []


class Stopped(StudyError):
    """A run was put down on request; it goes on from there."""


def listen() -> None:
    """Turn the first SIGTERM or SIGINT into a request; a second one ends the process as it always does."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ask)


def _ask(number: int, frame: FrameType | None) -> None:
    _asked.append(signal.Signals(number).name)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def asked() -> str | None:
    """Return the name of the signal that asked this process to stop, if one did."""
    return _asked[0] if _asked else None
