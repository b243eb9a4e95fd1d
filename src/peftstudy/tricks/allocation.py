"""Memory that a step frees and the next one takes again, without a detour by the operating system."""

import ctypes
import sys

MMAP_MAX, MMAP_THRESHOLD, TOP_PAD, TRIM_THRESHOLD = -4, -3, -2, -1
"""Names of mallopt(3)'s parameters, as glibc numbers them."""

KEEP = {MMAP_MAX: 0, TRIM_THRESHOLD: -1, TOP_PAD: 2**26}
GIVE_BACK = {MMAP_MAX: 2**16, MMAP_THRESHOLD: 2**25, TRIM_THRESHOLD: 2**26, TOP_PAD: 2**17}
"""What glibc comes to by itself in a process that frees large blocks: those of 32 MiB or more go back at once."""

_kept = False


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


def give_back() -> None:
    """Return what is free now to the operating system, where malloc can."""
    if possible():
        ctypes.CDLL(None).malloc_trim(0)
