"""C of ours that the machine's own compiler compiles on first use; without a compiler, nothing needs it."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

from peftstudy import files

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
SECONDS = 120  # a compiler takes two of them


@functools.cache
def library(name: str) -> ctypes.CDLL | None:
    """Return the library of `name`.c beside this file, compiled for this processor; None where that cannot be.

    It is kept in the user's cache, under what it depends on, so that a machine without a compiler takes it from one
    like it.
    """
    source = Path(__file__).with_name(f"{name}.c")
    about = (source.read_text(encoding="utf-8"), FLAGS, platform.machine(), _processor())
    path = _cache() / f"{name}-{hashlib.sha256(repr(about).encode()).hexdigest()[:16]}.so"
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    try:
        if not path.exists() and compiler:
            with files.whole(path) as temporary:
                command = [compiler, *FLAGS, str(source), "-o", str(temporary), "-lm"]
                subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):  # no room, no right to write, a compiler that knows no such vectors
        return None


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "peftstudy"


def _processor() -> str:
    """Return what Linux says this processor can do; machines of several kinds may share a home."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
