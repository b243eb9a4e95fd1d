"""Short trials before a run: which learning rate it takes, and how many steps fit its seconds."""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from peftstudy import devices, origins, sampling, tokens, training
from peftstudy.building import Fit, Inputs, build
from peftstudy.checkpoints import Checkpoints
from peftstudy.records import Place, finite, run_key
from peftstudy.specs import RunSpec, several

log = logging.getLogger(__name__)

STEPS = (3, 20)
"""Steps of the trials that time a step: the first warms up."""


def settled(spec: RunSpec, inputs: Inputs, data: tokens.Tokens, parts: Any, checksums: Mapping[str, str]) -> RunSpec:
    """Return the run with one learning rate, and with a number of steps instead of seconds; a cell's seeds share both.

    parts: the numbers of the training and of the validation examples. checksums: of what the run is made from.
    """
    asked = spec.training
    if several(asked.learning_rate):
        asked = replace(asked, learning_rate=_rate(spec, inputs, data, parts, checksums))
    spec = replace(spec, training=asked)
    if asked.seconds:
        asked = replace(asked, steps=_steps_within(spec, inputs, data, parts, checksums))
    return replace(spec, training=asked)


def _rate(spec: RunSpec, inputs: Inputs, data: tokens.Tokens, parts: Any, checksums: Mapping[str, str]) -> float:
    """Return the learning rate whose short trial scores best on validation."""
    place = Place((inputs.state / spec.path).parent)
    key = _key(spec, inputs, checksums)
    with place.lock():
        found = place.holds("search.json", key)
        if found is None:
            attempt = lambda rate: _trial(spec, rate, inputs, data, parts)  # noqa: E731
            trials = sampling.tried(spec.training.learning_rate, spec.search, attempt)
            rate = sampling.best(trials)["learning_rate"]
            found = place.seal("search.json", {"key": key, "trials": trials, "learning_rate": rate})
            names = [f"{trial['learning_rate']:g}" for trial in trials]
            log.info("%s: learning rate %g of %s", place.folder.name, rate, names)
    return found["learning_rate"]


def _key(spec: RunSpec, inputs: Inputs, checksums: Mapping[str, str]) -> str:
    """Return what the trials of a cell are known by: they are of the search's seed, whichever run comes first."""
    asked = spec.with_seed(spec.search.seed)
    return run_key(asked, {**checksums, **origins.checksums(asked, inputs)})


def _trial(spec: RunSpec, rate: float, inputs: Inputs, data: tokens.Tokens, parts: Any) -> dict[str, Any]:
    search, place = spec.search, Place(inputs.state / spec.path)
    settings = replace(
        spec.training, learning_rate=rate, epochs=search.epochs, steps=None, minimum_steps=0, select="last"
    )
    spec = replace(spec.with_seed(search.seed), training=settings)
    train = parts[0][: search.examples]
    devices.tell(Fit(spec, len(train), len(parts[1]), place))
    adapted, method, task = build(spec, inputs, data)
    run = training.Run(adapted.model, method, task, settings, spec.seed)
    last = run.fit(data, train, parts[1], Checkpoints()).history[-1]
    return {
        "learning_rate": rate,
        "validation_score": finite(last.validation_score),
        "validation_loss": finite(last.validation_loss),
    }


def _steps_within(spec: RunSpec, inputs: Inputs, data: tokens.Tokens, parts: Any, checksums: Mapping[str, str]) -> int:
    """Return how many steps fit the run's seconds, by a short trial on this machine.

    With a number of steps, and not a clock, a run has a schedule, and goes on as it would have where it was stopped.
    """
    place = Place((inputs.state / spec.path).parent)
    key = _key(spec, inputs, checksums)
    with place.lock():
        found = place.holds("budget.json", key)
        if found is None:
            seconds = [_step_seconds(spec, inputs, data, parts, steps) for steps in STEPS][-1]
            steps = max(1, round(spec.training.seconds / seconds))
            found = place.seal("budget.json", {"key": key, "step_seconds": seconds, "steps": steps})
            log.info("%s: %d steps in %g seconds", place.folder.name, steps, spec.training.seconds)
    return found["steps"]


def _step_seconds(spec: RunSpec, inputs: Inputs, data: tokens.Tokens, parts: Any, steps: int) -> float:
    settings = replace(spec.training, steps=steps, select="last")
    asked = replace(spec.with_seed(spec.search.seed), training=settings)
    devices.tell(Fit(asked, len(parts[0]), 0, Place(inputs.state / spec.path)))
    adapted, method, task = build(asked, inputs, data)
    run = training.Run(adapted.model, method, task, settings, asked.seed)
    begin = time.perf_counter()
    run.fit(data, parts[0], parts[1][:0], Checkpoints())
    if inputs.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / steps
