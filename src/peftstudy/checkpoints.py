"""Where a run keeps its state between epochs, so that one that is killed goes on and ends the same."""

import logging
import pickle
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from peftstudy import files

log = logging.getLogger(__name__)


class Resumable(Protocol):
    """What can be put down and taken up again: see training.Run."""

    device: torch.device

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass
class Checkpoints:
    """The checkpoint file of one run; none when path is None.

    key: what the run is known by; a checkpoint of another key is passed over.
    seconds: at least so many lie between two checkpoints. How often they are taken changes no number:
    a run that goes on ends, bit for bit, as one that was not interrupted, for the optimizer's moments,
    torch's generators and the order of examples (which seed and epoch alone decide) are all there is.
    """

    path: Path | None = None
    key: str = ""
    seconds: float = 30.0
    saved: float = field(default_factory=time.monotonic)

    def save(self, run: Resumable) -> None:
        if self.path is None or time.monotonic() - self.saved < self.seconds:
            return
        with files.whole(self.path) as temporary:
            torch.save({"key": self.key, "state": run.state()}, temporary)
        self.saved = time.monotonic()

    def restore(self, run: Resumable) -> bool:
        """Put a run where its checkpoint left it, if there is one; a damaged one, or another run's, is passed over."""
        if self.path is None or not self.path.exists():
            return False
        try:
            found = torch.load(self.path, map_location=run.device, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            log.warning("%s: not a whole checkpoint (%s); starting afresh", self.path, type(error).__name__)
            return False
        if found["key"] != self.key:
            return False
        run.restore(found["state"])
        return True
