"""What befalls a run on several devices: the process that fails notes why, all end, and torchrun starts them again.

No process can go on alone, and torchrun does not wait for what the first one would write of a run that failed
elsewhere. So it finds the note at the next start, writes the record, and goes on with the pack.
"""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from peftstudy import devices, stopping
from peftstudy.errors import StudyError
from peftstudy.records import Place

log = logging.getLogger(__name__)

FAULTS = (AttributeError, LookupError, TypeError, ValueError)
"""Errors of the code, such as those of a user's own method: the log has where they arose."""
FAILURES = (StudyError, RuntimeError, ArithmeticError, MemoryError, *FAULTS)
"""What sinks one run and not its neighbours: what the user must mend, torch's errors (memory among them), arithmetic
ones and the code's."""
GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exiting prematurely")
"""What gloo and NCCL say where another process has ended: no error of the run's."""
NOTE = "mishap.json"


class Again(StudyError):
    """All processes of a run on several devices end, and start again."""


ENDS = (stopping.Stopped, Again)
"""What ends the process and sinks no run: it goes on at the next start."""


def reason(error: BaseException) -> str:
    """Return an error in a line; of one of the code's the log gets the whole."""
    if isinstance(error, FAULTS):
        log.error("%s", "".join(traceback.format_exception(error)))
    kind = "" if isinstance(error, StudyError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())[:500]


def noted(place: Place) -> str | None:
    """Return why the run failed in one of its processes, earlier in this launch of them."""
    found = place.holds(NOTE, devices.launch()) if devices.count() > 1 else None
    return found and found["reason"]


@contextmanager
def note(place: Place) -> Iterator[None]:
    """Note an error that a process of several meets in the block, and end it with a sentence."""
    try:
        yield
    except ENDS:
        raise
    except FAILURES as error:
        if devices.count() == 1:
            raise
        said = reason(error)
        if any(words in str(error) for words in GONE):
            said = "another of its processes ended"
        else:
            place.seal(NOTE, {"key": devices.launch(), "reason": f"{said} (process {devices.number()})"})
        raise Again(f"{place.name}: {said}; all its processes end, and start again.") from None


@contextmanager
def halving(place: Place, key: str, size: int) -> Iterator[None]:
    """Let the next try take micro-batches of half the size, where the device's memory is too small for these.

    key: of the run. size: examples that go through the model together, which may be fewer than were asked for. Raises
    OutOfMemoryError all the same; Again where there are other processes, which are in the middle of a step and must
    start again, too.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        if size == 1:
            raise
        half, said = (size + 1) // 2, " ".join(str(error).split())[:120]
        log.warning("%s: out of device memory (%s); again with micro-batches of %d", place.name, said, half)
        place.seal("memory.json", {"key": key, "micro_batch_size": half})
        if devices.count() > 1:
            raise Again(f"{place.name}: all its processes start again.") from None
        raise
