"""Being asked to stop (a time limit, scancel, Ctrl-C): at the next step, after a checkpoint, with one line."""

import signal
import time
from types import FrameType

from peftstudy.errors import StudyError

TOGETHER_SECONDS = 5.0
"""Slurm asks twice at a time limit: the step's processes, and the job's srun, which passes it on to them."""

_asked: list[tuple[str, float]] = []


class Stopped(StudyError):
    """A run was put down on request; it goes on from there."""


def listen() -> None:
    """Turn SIGTERM or SIGINT into a request; another one ends the process as it always does, a quick SIGTERM apart."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ask)


def _ask(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _asked and (number == signal.SIGINT or now - _asked[0][1] > TOGETHER_SECONDS):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.raise_signal(number)
    _asked.append((signal.Signals(number).name, now))


def asked() -> str | None:
    """Return the name of the signal that asked this process to stop, if one did."""
    return _asked[0][0] if _asked else None
