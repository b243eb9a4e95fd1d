"""Memory that a step frees and the next one takes again, without a detour by the operating system."""

import ctypes
import os
import sys
from pathlib import Path

STATM, PAGE = Path("/proc/self/statm"), os.sysconf("SC_PAGE_SIZE")

MMAP_MAX, MMAP_THRESHOLD, TOP_PAD, TRIM_THRESHOLD = -4, -3, -2, -1
"""Names of mallopt(3)'s parameters, as glibc numbers them."""

KEEP = {MMAP_MAX: 0, TRIM_THRESHOLD: -1, TOP_PAD: 2**26}
GIVE_BACK = {MMAP_MAX: 2**16, MMAP_THRESHOLD: 2**25, TRIM_THRESHOLD: 2**26, TOP_PAD: 2**17}
"""What glibc comes to by itself in a process that frees large blocks: those of 32 MiB or more go back at once."""

GROWTH = 2.0
"""So many times what a step takes may a process become before what is free of it goes back."""

_kept = False
_usual, _unseen = 0, 2
"""Bytes that a step takes, and how often `settle` is called before a whole step has been seen."""


def possible() -> bool:
    """Whether this process has glibc's malloc, which takes such advice."""
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


def keep(wanted: bool) -> None:
    """Let freed memory stay with this process from now on, or let large blocks go back, as they do at first.

    A block of memory that comes from the operating system is cleared page by page when it is first
    written: of a wide model's step on a processor that takes a tenth.
    """
    global _kept
    if wanted == _kept:
        return
    library = ctypes.CDLL(None)
    for parameter, value in (KEEP if wanted else GIVE_BACK).items():
        library.mallopt(parameter, value)
    _kept = wanted
    if not wanted:
        give_back()


def settle() -> None:
    """Give back what is free where this process has become twice as large as a step makes it; called before each.

    Blocks of ever other sizes, as the logits of texts of all lengths, leave holes that hardly a next one fits in, and
    kept memory would grow on and on. A step's own size is what the process has after the first one, and after each
    that follows such a clearing.
    """
    global _usual, _unseen
    if not _kept:
        return
    resident = int(STATM.read_text().split()[1]) * PAGE
    if _unseen:
        _usual, _unseen = max(_usual, resident), _unseen - 1
    elif resident > GROWTH * _usual:
        ctypes.CDLL(None).malloc_trim(0)
        _unseen = 1


def give_back() -> None:
    """Return what is free now to the operating system, where malloc can; what a step takes is to be seen anew."""
    global _usual, _unseen
    _usual, _unseen = 0, 2
    if possible():
        ctypes.CDLL(None).malloc_trim(0)
