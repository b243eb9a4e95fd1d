"""Short trials before a run: which learning rate it takes, and how many steps fit its seconds."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from peftstudy import devices, mishaps, origins, sampling, tokens, training
from peftstudy.building import Fit, Inputs, build
from peftstudy.checkpoints import Checkpoints
from peftstudy.records import Place, finite, run_key
from peftstudy.specs import RunSpec, Training, several

log = logging.getLogger(__name__)

STEPS = (3, 5, 20)
"""Steps of the trials that time a step: the first warms up, what the others take differs by fifteen steps."""


@dataclass(frozen=True)
class Trials:
    """What the trials of a run are made with; the seeds of a cell share what comes of them.

    parts: the numbers of the training and of the validation examples. checksums: of what the run is made from.
    key: of the run. micro_batch_size: that fits the device's memory, as far as is known.
    """

    inputs: Inputs
    data: tokens.Tokens
    parts: tuple[np.ndarray, np.ndarray]
    checksums: Mapping[str, str]
    key: str
    micro_batch_size: int

    def settle(self, spec: RunSpec) -> RunSpec:
        """Return the run with one learning rate, and with a number of steps instead of seconds."""
        asked = spec.training
        if several(asked.learning_rate):
            asked = replace(asked, learning_rate=self._rate(spec))
        spec = replace(spec, training=asked)
        if asked.seconds:
            asked = replace(asked, steps=self._steps_within(spec))
        return replace(spec, training=asked)

    def _rate(self, spec: RunSpec) -> float:
        """Return the learning rate whose short trial scores best on validation."""
        place, key = self._cell(spec)
        with place.lock():
            found = place.holds("search.json", key)
            if found is None:
                attempt = lambda rate: self._attempt(spec, rate, place, f"{key} {self.micro_batch_size}")  # noqa: E731
                trials = sampling.tried(spec.training.learning_rate, spec.search, attempt)
                rate = sampling.best(trials)["learning_rate"]
                found = place.seal("search.json", {"key": key, "trials": trials, "learning_rate": rate})
                for path in (place.folder / "trials.json", place.checkpoint):
                    path.unlink(missing_ok=True)
                names = [f"{trial['learning_rate']:g}" for trial in trials]
                log.info("%s: learning rate %g of %s", place.folder.name, rate, names)
        return found["learning_rate"]

    def _attempt(self, spec: RunSpec, rate: float, place: Place, key: str) -> Mapping[str, Any]:
        """Return what came of a rate in a search that was interrupted, or do its trial and keep that until the end.

        key: of the cell, and of the size of parts, for trials are held against each other.
        """
        kept = place.holds("trials.json", key)
        done = kept["trials"] if kept else []
        same = next((trial for trial in done if trial["learning_rate"] == rate), None)
        if same is None:
            checkpoints = Checkpoints(place.checkpoint, f"{key} {rate!r}", self.inputs.checkpoint_seconds)
            same = self.trial(spec, rate, checkpoints)
            place.seal("trials.json", {"key": key, "trials": [*done, same]})
        return same

    def trial(self, spec: RunSpec, rate: float, checkpoints: Checkpoints) -> dict[str, Any]:
        """Return what comes of a short training with a rate; one that diverged has no score, whatever it answers."""
        search = spec.search
        settings = replace(
            spec.training, learning_rate=rate, epochs=search.epochs, steps=None, minimum_steps=0, select="last"
        )
        train, validation = self.parts[0][: search.examples], self.parts[1]
        run = self._run(spec, settings, train, validation, checkpoints)
        with self._halving(spec, run):
            last = run.fit(self.data, train, validation, checkpoints).history[-1]
        diverged = None in (finite(last.training_loss), finite(last.validation_loss))
        return {
            "learning_rate": rate,
            "validation_score": None if diverged else finite(last.validation_score),
            "validation_loss": finite(last.validation_loss),
        }

    def _steps_within(self, spec: RunSpec) -> int:
        """Return how many steps fit the run's seconds, by a short trial on this machine.

        With a number of steps, and not a clock, a run has a schedule, and goes on as it would have where it was
        stopped.
        """
        place, key = self._cell(spec)
        with place.lock():
            found = place.holds("budget.json", key)
            if found is None:
                once, each = _costs(STEPS[1:], [self.seconds(spec, steps) for steps in STEPS][1:])
                steps = max(1, round((spec.training.seconds - once) / each))
                taken = {"once_seconds": once, "step_seconds": each, "steps": steps}
                found = place.seal("budget.json", {"key": key, **taken})
                log.info("%s: %d steps in %g seconds", place.folder.name, steps, spec.training.seconds)
        return found["steps"]

    def seconds(self, spec: RunSpec, steps: int) -> float:
        """Return the seconds of a training of so many steps, with what is done once for all of them."""
        train, validation = self.parts[0], self.parts[1][:0]
        none = Checkpoints()
        run = self._run(spec, replace(spec.training, steps=steps, select="last"), train, validation, none)
        begin = time.perf_counter()
        with self._halving(spec, run):
            run.fit(self.data, train, validation, none)
        if self.inputs.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    def _cell(self, spec: RunSpec) -> tuple[Place, str]:
        """Return where the trials of a cell are kept, and what they are known by.

        They are of the search's seed, whichever run comes first.
        """
        asked = spec.with_seed(spec.search.seed)
        key = run_key(asked, {**self.checksums, **origins.checksums(asked, self.inputs)})
        return Place((self.inputs.state / spec.path).parent), key

    def _run(
        self, spec: RunSpec, settings: Training, train: np.ndarray, validation: np.ndarray, checkpoints: Checkpoints
    ) -> training.Run:
        settings = replace(settings, micro_batch_size=self.micro_batch_size)
        asked = replace(spec.with_seed(spec.search.seed), training=settings)
        place = Place(self.inputs.state / spec.path)
        devices.tell(Fit(asked, len(train), len(validation), place, self.key, checkpoints))
        adapted, method, task = build(asked, self.inputs, self.data)
        return training.Run(adapted.model, method, task, settings, asked.seed)

    def _halving(self, spec: RunSpec, run: training.Run) -> AbstractContextManager[None]:
        return mishaps.halving(Place(self.inputs.state / spec.path), self.key, run.part_size)


def _costs(steps: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Return what a training takes once, and what each of its steps takes, by two trainings.

    Once: a frozen body's output for all examples, what a method prepares. Where noise hides it, steps take all.
    """
    each = (seconds[1] - seconds[0]) / (steps[1] - steps[0])
    once = seconds[1] - steps[1] * each
    return (once, each) if each > 0 and once > 0 else (0.0, seconds[1] / steps[1])
