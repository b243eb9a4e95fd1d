"""C of ours that the machine's own compiler compiles on first use; without a compiler, nothing needs it."""

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

COMPILERS = ("cc", "gcc", "clang")
FLAGS = (
    "-std=c11", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC",
    "-shared",
)  # fmt: skip
SECONDS = 120  # a compiler takes two of them
DIGEST = hashlib.sha256().digest_size


@functools.cache
def library(name: str) -> ctypes.CDLL | None:
    """Return the library of `name`.c beside this file, compiled for this processor; None where that cannot be.

    It is kept in the user's cache, under what it depends on, so that a machine without a compiler takes it from one
    like it; where there is no home or no room in it, in a folder that ends with the process.
    """
    source = Path(__file__).with_name(f"{name}.c")
    about = (source.read_text(encoding="utf-8"), FLAGS, platform.machine(), _processor())
    file = f"{name}-{hashlib.sha256(repr(about).encode()).hexdigest()[:16]}.so"
    said = ""
    for folder in _folders():
        try:
            if not _is_whole(folder / file):
                _compile(source, folder / file)
            return ctypes.CDLL(str(folder / file))
        except OSError as error:  # no right to write, no room, no right to run what lies there, no compiler
            said = str(error)
    log.warning("%s is not compiled (%s); torch's operators do its work, slower", source.name, said)
    return None


def _folders() -> Iterator[Path]:
    with contextlib.suppress(RuntimeError):  # of a user without a home
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "peftstudy"
    yield Path(_own_folder().name)


@functools.cache
def _own_folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="peftstudy-")


def _is_whole(path: Path) -> bool:
    """Whether a file ends with the checksum of all before it: what is cut off or damaged would end the process."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]


def _compile(source: Path, path: Path) -> None:
    """Make a library, its checksum behind it, by the first compiler that can; OSError where none can."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        made = Path(folder) / path.name
        _try_compilers(source, made)
        with made.open("ab") as file:
            file.write(hashlib.sha256(made.read_bytes()).digest())
        if path.exists() and not _is_whole(path):
            path.unlink()
        try:
            os.link(made, path)
        except FileExistsError:
            pass  # another process was faster, and has its own open; over NFS it would lose it
        except OSError:  # a file system without links
            made.replace(path)


def _try_compilers(source: Path, made: Path) -> None:
    found = list(filter(None, map(shutil.which, filter(None, [os.environ.get("CC"), *COMPILERS]))))
    said = "no C compiler found"
    for compiler in dict.fromkeys(found):
        command = [compiler, *FLAGS, str(source), "-o", str(made), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
            ctypes.CDLL(str(made))
            return
        except subprocess.CalledProcessError as error:
            said = f"{compiler}: {(error.stderr.decode(errors='replace').strip().splitlines() or ['failed'])[-1]}"
        except (OSError, subprocess.TimeoutExpired) as error:
            said = f"{compiler}: {error}"
    raise OSError(said)


def _processor() -> str:
    """Return what Linux says this processor can do; machines of several kinds may share a home."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
