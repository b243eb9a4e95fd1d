"""Where a run keeps its state between steps, so that one that is killed goes on and ends the same."""

import hashlib
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch

from peftstudy import devices, files, stopping

log = logging.getLogger(__name__)


class Resumable(Protocol):
    """What can be put down and taken up again: see training.Run."""

    device: torch.device

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


class _Hashing:
    """A file that is being written, and the checksum of what was."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


@dataclass
class Checkpoints:
    """The checkpoint file of one run; none when path is None.

    key: what the run is known by; a checkpoint of another key is passed over.
    seconds: at least so many lie between two checkpoints. How often they are taken changes no number:
    a run that goes on ends, bit for bit, as one that was not interrupted, for the optimizer's moments,
    torch's generators and the order of examples (which seed and epoch alone decide) are all there is.

    The file is a SHA-256 followed by what torch.save wrote, which has no checksum that is read.
    """

    path: Path | None = None
    key: str = ""
    seconds: float = 30.0
    saved: float = field(default_factory=time.monotonic)

    def save(self, run: Resumable, step: int) -> None:
        """Keep the run's state after a step when it is time to, or when the process was asked to stop.

        Raises Stopped in that case. A disk that is full costs the checkpoint, not the run.
        """
        asked = stopping.asked()
        is_due, is_asked = devices.any_of(time.monotonic() - self.saved >= self.seconds, bool(asked))
        if self.path and (is_asked or is_due):
            state = run.state()
            try:
                if devices.number() == 0:
                    self._write(state)
            except OSError as error:
                log.warning("%s: no checkpoint (%s); the run goes on", self.path, error.strerror or error)
            self.saved = time.monotonic()
        if is_asked:
            asked = asked or "a signal to another of its processes"
            raise stopping.Stopped(f"{asked} after step {step}; the next start goes on from the last checkpoint.")

    def _write(self, state: dict[str, Any]) -> None:
        with files.whole(self.path) as temporary, temporary.open("wb") as file:
            file.write(bytes(hashlib.sha256().digest_size))
            hashing = _Hashing(file)
            try:
                torch.save({"key": self.key, "state": state}, hashing)
            except RuntimeError as error:  # torch's writer hides the disk's error behind one of its own
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
            file.seek(0)
            file.write(hashing.sha256.digest())

    def restore(self, run: Resumable) -> bool:
        """Put a run where its checkpoint left it, if there is one; a damaged one, or another run's, is passed over."""
        if self.path is None or not self.path.exists():
            return False
        with self.path.open("rb") as file:  # never whole in memory beside what it holds
            digest = file.read(hashlib.sha256().digest_size)
            if hashlib.file_digest(file, "sha256").digest() != digest:
                log.warning("%s: a damaged checkpoint (its checksum differs); starting afresh", self.path)
                return False
            file.seek(len(digest))
            found = torch.load(file, map_location=run.device, weights_only=True)
        if found["key"] != self.key:
            return False
        run.restore(found["state"])
        return True
