"""One writer at a time: a lock file that says who holds it, is kept fresh, and is taken over from the dead.

Snakemake's own lock goes when it is killed, and the training that it had started goes on.
"""

import errno
import fcntl
import json
import logging
import os
import platform
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from peftstudy import stopping

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 90.0
"""Without a heartbeat for so long, a holder whose end cannot be seen from here counts as dead."""
POLL_SECONDS = 1.0
NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}
"""What a file system says that has no hard links (exFAT, some in the network)."""
LOST = 75
"""The exit code of a process whose lock another took over: it must not write any more."""


def _namespace() -> str:
    """Return what tells process numbers of one container from those of another under the same host name."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock; job: its Slurm job, when it has one."""

    host: str
    pid: int
    started: float
    job: str | None
    namespace: str
    token: str

    @classmethod
    def me(cls) -> "Holder":
        started = psutil.Process().create_time()
        return cls(
            platform.node(), os.getpid(), started, os.environ.get("SLURM_JOB_ID"), _namespace(), uuid.uuid4().hex
        )

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" + (f" (SLURM job {self.job})" if self.job else "")

    def is_alive(self, silent_seconds: float) -> bool:
        """Return whether it may still write; silent_seconds: how long its heartbeat was not seen.

        On one machine the process itself is looked for. A job that was requeued finds the lock of its
        own earlier start. Of other machines' jobs the queue knows; of anything else, the heartbeat.
        """
        if (self.host, self.namespace) == (platform.node(), _namespace()):
            try:
                found = psutil.Process(self.pid)
                # One that has ended and whose parent does not ask how (a container's first process) keeps its number.
                has_ended = found.status() == psutil.STATUS_ZOMBIE
                return not has_ended and abs(found.create_time() - self.started) < 1
            except psutil.NoSuchProcess:
                return False
        if self.job and (self.job == os.environ.get("SLURM_JOB_ID") or _is_in_queue(self.job) is False):
            return False
        return silent_seconds < STALE_SECONDS


def _is_in_queue(job: str) -> bool | None:
    """Return whether a Slurm job may still be running; None when that cannot be known."""
    try:
        asked = ["squeue", "--noheader", "--states=all", "--jobs", job, "--format=%T"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and "Invalid job id" not in done.stderr:
        return None
    return done.stdout.strip() in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED")


def snakemakes(folder: Path | None = None) -> list[int]:
    """Return the numbers of the living Snakemakes in a folder (this one), the starts of their jobs apart.

    What Snakemake locks, it unlocks for whoever asks, also while it is at work.
    """
    here = str((folder or Path.cwd()).resolve())
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or [""]
        is_snakemake = "python" in words[0] and "snakemake" in {Path(word).name for word in words[1:3]}
        if is_snakemake and "--mode" not in words and process.info["cwd"] == here:
            found.append(process.pid)
    return found


@dataclass
class _Lock:
    path: Path
    holder: Holder = field(default_factory=Holder.me)
    ended: threading.Event = field(default_factory=threading.Event)

    def take(self) -> Holder | None:
        """Take the lock and return None, or return who has it."""
        mine = self.path.with_name(f".{self.path.name}.{self.holder.token}")
        try:
            mine.write_text(json.dumps(asdict(self.holder)))
            self._place(mine)
            return None
        except FileExistsError:
            return self._other(mine.stat().st_mtime)
        finally:
            mine.unlink(missing_ok=True)

    def _place(self, mine: Path) -> None:
        """Give a file of one's own the lock's name; raises FileExistsError where there is one."""
        try:
            os.link(mine, self.path)  # whole from the start, and atomic also on NFS
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            with self._alone():
                if self.path.exists():
                    raise FileExistsError from None
                mine.replace(self.path)

    def _other(self, now: float) -> Holder | None:
        """Return the living holder; take the lock of a dead one. now: by the clock of the disk."""
        try:
            silent = now - self.path.stat().st_mtime
            other = Holder(**_read(self.path))
        except FileNotFoundError:
            return self.take()
        if other.is_alive(silent):
            return other
        with self._alone():
            if self._is_of(other):  # and not already that of another who was quicker
                self.path.unlink()
                log.info("%s: %s ended without giving it up; going on in its place", self.path.parent.name, other)
        return self.take()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time remove a dead lock, or place one without links.

        That is by a lock of the system's, which ends with its process. Such locks alone would not do: on a cluster's
        file systems one may last beyond a node's crash, and none says whose.
        """
        with self.path.with_name(f".{self.path.name}.dead").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def is_mine(self) -> bool:
        return self._is_of(self.holder)

    def _is_of(self, holder: Holder) -> bool:
        try:
            return _read(self.path)["token"] == holder.token
        except FileNotFoundError:
            return False

    def beat(self) -> None:
        while not self.ended.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # a disk in the network that does not answer for once
                if not self.is_mine() and not self.ended.is_set():
                    log.error(
                        "%s: another process took this over (was this one asleep?); it ends here", self.path.parent
                    )
                    os._exit(LOST)
                os.utime(self.path)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; while another process holds it, say so and wait.

    what: is named in the line that says who is waited for. Raises stopping.Stopped when asked to stop meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _Lock(path)
    said = None
    while other := lock.take():
        if asked := stopping.asked():
            raise stopping.Stopped(f"{what}: {asked} while {other} was at it.")
        if other != said:
            log.info("%s: %s is at it; waiting for its end", what, other)
            said = other
        time.sleep(POLL_SECONDS)
    threading.Thread(target=lock.beat, daemon=True, name=f"heartbeat {path}").start()
    try:
        yield
    finally:
        lock.ended.set()
        if lock.is_mine():
            path.unlink(missing_ok=True)
