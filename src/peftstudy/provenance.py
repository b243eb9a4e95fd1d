"""Where numbers come from: the code, the packages, the machine, and the memory of a process."""

import os
import platform
import re
import resource
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peftstudy.files import sha256_json
from peftstudy.tricks import allocation

ROOT = Path(__file__).resolve().parents[2]

DECIDING = (
    "accelerate", "adapters", "numpy", "peft", "safetensors", "scikit-learn", "tokenizers", "torch", "transformers",
)  # fmt: skip
"""The packages whose versions may change a score; torch's names its build, too (2.13.0+cpu)."""


def provenance() -> dict[str, Any]:
    """Return what a record keeps of its making, in plain JSON values.

    commit, dirty: see code(). environment: the SHA-256 of `packages`, the same for the same versions.
    machine: see machine(). slurm: the job and its node, only within a SLURM job, whose logs go by them.
    No time and, outside of SLURM, no host name: records of one machine differ by what was measured alone.
    """
    packages = {name: _version(name) for name in DECIDING}
    found = {
        **code(),
        "peftstudy": _version("peftstudy"),
        "python": platform.python_version(),
        "packages": packages,
        "environment": sha256_json(packages),
        "machine": machine(),
    }
    if "SLURM_JOB_ID" in os.environ:
        found["slurm"] = {"job": os.environ["SLURM_JOB_ID"], "node": platform.node()}
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def code(root: Path = ROOT) -> dict[str, Any]:
    """Return the commit of the checkout at `root` and whether src/ or the lock differ from it (dirty).

    Both are None where `root` is not the top of a git checkout, as when the package was installed
    from an archive. Asked once a process: the code that runs is the code that was there at its start.
    """
    if _git(root, "rev-parse", "--show-toplevel") != str(root):
        return {"commit": None, "dirty": None}
    changes = _git(root, "status", "--porcelain", "--", "src", "requirements.lock")
    return {"commit": _git(root, "rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """Return the processor's name, the cores that this process may use, its threads, and its device.

    threads and device are torch's where it has been imported; else what OMP_NUM_THREADS asks for, and cpu.
    """
    # Importing torch takes seconds; a process that has not done so measures nothing with it.
    torch = sys.modules.get("torch")
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads() if torch else int(asked) if asked.isdigit() else None,
        "device": torch.cuda.get_device_name() if torch and torch.cuda.is_available() else "cpu",
        "system": f"{platform.system()} {platform.machine()}",
    }


@cache
def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory_bytes() -> int:
    """Return the most memory that was resident in this process since its start, or since reset_peak_memory().

    That is Python, the libraries and the data: a process that has imported torch and transformers
    begins at some 500 MB. Of several runs in one process, each has its own peak where the system
    can reset it (Linux), and the highest so far elsewhere; what earlier runs left behind counts too.
    """
    try:
        peak = re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    except OSError:
        peak = None
    if peak:
        return int(peak[1]) * 1024
    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def reset_peak_memory() -> bool:
    """Start the peak again from what is in use now; return whether the system can.

    Source: proc(5), /proc/pid/clear_refs: writing 5 resets the peak resident set size.
    """
    allocation.give_back()  # else what an earlier run freed would count
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True
