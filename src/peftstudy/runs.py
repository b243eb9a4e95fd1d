"""tokens -> runs: train the runs of a pack in one process, the missing ones only.

Training is given the training and validation parts; evaluation.py, which scores what was trained,
is given the test part.
"""

import errno
import gc
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from peftstudy import backbones, devices, files, methods, mishaps, splits, tasks, tokens, training
from peftstudy.checkpoints import Checkpoints
from peftstudy.errors import StudyError
from peftstudy.provenance import peak_memory_bytes, provenance, reset_peak_memory
from peftstudy.records import TRAINED, Place, finite, run_key, write_rows
from peftstudy.specs import RunSpec

log = logging.getLogger(__name__)

HISTORY = (
    "epoch",
    "step",
    "training_loss",
    "validation_loss",
    "validation_score",
    "training_seconds",
    "evaluation_seconds",
)
TRIAL_STEPS = (3, 20)
"""Steps of the trials that time a step: the first warms up."""


@dataclass(frozen=True)
class Inputs:
    """The folders that the runs of a pack share."""

    tokens: Path
    backbone: Path
    state: Path
    output: Path
    device: torch.device
    checkpoint_seconds: float = 0.0

    def check_backbone(self) -> None:
        """Raise StudyError when a file of the backbone is not the one that its manifest was written for."""
        files.check_entries(self.backbone, files.read_json(self.backbone / "manifest.json")["files"])

    @property
    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of the tokens and of the backbone, from their manifests."""
        return {
            "tokens": files.read_json(self.tokens / "tokens.json")["sha256"],
            "backbone": files.read_json(self.backbone / "manifest.json")["sha256"],
        }


@dataclass(frozen=True)
class Fit:
    """What the processes of several devices do together, as the first one tells the others.

    train, validation: how many examples of each part. place, key: of the run that it is for; no key, no checkpoint.
    """

    spec: RunSpec
    train: int
    validation: int
    place: Place
    key: str | None = None
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    gathers: bool = False


def train_pack(runs: Sequence[RunSpec], inputs: Inputs, train: Path, validation: Path) -> list[Mapping[str, Any]]:
    """Train those of the runs that are not there yet; return the records of all, in order."""
    checksums = inputs.checksums | {"train": files.sha256(train), "validation": files.sha256(validation)}
    parts = splits.load_part(train), splits.load_part(validation)
    data = tokens.load(inputs.tokens)
    inputs.check_backbone()
    records = []
    for number, spec in enumerate(runs, 1):
        place = Place(inputs.state / spec.path)
        key = run_key(spec, checksums)
        with place.lock():
            record = place.holds("record.json", key)
            if record is None or (record["status"] == "failed" and not mishaps.noted(place)):
                record = _train(spec, inputs, data, parts, place, key, checksums)
                log.info("%d/%d %s: %s", number, len(runs), spec.path, summary(record))
            place.publish(TRAINED, inputs.output / spec.path)
            _publish_search(spec, inputs)
        records.append(record)
    devices.tell()
    return records


def follow(inputs: Inputs, train: Path, validation: Path) -> None:
    """Train along with the process that does a pack of runs, on a device of its own, until that has no more to do."""
    parts = splits.load_part(train), splits.load_part(validation)
    data = tokens.load(inputs.tokens)
    while told := devices.tell():
        size = told.spec.training.micro_batch_size if told.key else 1
        with mishaps.note(told.place), mishaps.halving(told.place, told.key, size):
            adapted, method, task = build(told.spec, inputs, data)
            run = training.Run(adapted.model, method, task, told.spec.training, told.spec.seed)
            after = (lambda model, epoch: methods.trained_state(model)) if told.gathers else None
            run.fit(data, parts[0][: told.train], parts[1][: told.validation], told.checkpoints, after)


def summary(record: Mapping[str, Any]) -> str:
    """Return one line on a run: its status, its validation score and how long it took."""
    measured = record["measured"]
    if record["status"] == "failed":
        return f"failed: {record['reason']}"
    score = measured["validation_score"]
    scored = f"validation {score:.3f} at epoch {measured['chosen_epoch']}" if score is not None else "no validation"
    return f"{record['status']}, {scored}, {measured['training_seconds']:.1f} s of training"


def _train(
    spec: RunSpec, inputs: Inputs, data: tokens.Tokens, parts: Any, place: Place, key: str, checksums: Any
) -> Any:
    """Train one run and write its record, whatever comes of it; a failure is recorded, not raised."""
    place.folder.mkdir(parents=True, exist_ok=True)
    began = {"asked": spec.as_dict(), "key": key, "provenance": provenance() | {"inputs": dict(checksums)}}
    rows: list[dict[str, Any]] = []
    reason = mishaps.noted(place)
    try:
        if reason is None:
            with mishaps.note(place):
                measured, rows = _attempt(spec, inputs, data, parts, place, key, checksums)
    except mishaps.FAILURES as error:
        reason = mishaps.reason(error)
    if reason is not None:
        record = began | {"status": "failed", "reason": reason, "measured": {}}
    else:
        diverged = finite(rows[-1]["training_loss"]) is None
        record = began | {"status": "diverged" if diverged else "finished", "reason": None, "measured": measured}
        record["weights_sha256"] = files.sha256(place.weights)
        if diverged:
            record["reason"] = f"the training loss was not finite in epoch {rows[-1]['epoch']}"
    write_rows(place.folder / "history.csv", rows, HISTORY)
    record = place.seal("record.json", record, "history.csv")
    if record["status"] != "failed":
        for path in (place.checkpoint, place.folder / mishaps.NOTE):
            path.unlink(missing_ok=True)
    return record


def _attempt(
    spec: RunSpec, inputs: Inputs, data: tokens.Tokens, parts: Any, place: Place, key: str, checksums: Any
) -> tuple[dict, list]:
    """Settle the learning rate and the budget, then train."""
    spec = replace(spec, training=replace(spec.training, learning_rate=_rate(spec, inputs, data, parts, checksums)))
    if spec.training.seconds:
        steps = _steps_within(spec, inputs, data, parts, checksums)
        spec = replace(spec, training=replace(spec.training, steps=steps))
    return _fit_in_memory(spec, inputs, data, parts, place, key)


def _fit_in_memory(
    spec: RunSpec, inputs: Inputs, data: tokens.Tokens, parts: Any, place: Place, key: str
) -> tuple[dict, list]:
    """Train a run; when the device's memory is too small, from the start with micro-batches of half the size.

    The gradients of a batch's parts add up to the same update, but for rounding. The size that fits is
    kept, so that a run that is interrupted after all does not try the others again.
    """
    while True:
        kept = place.holds("memory.json", key)
        size = kept["micro_batch_size"] if kept else min(spec.training.micro_batch_size, spec.training.batch_size)
        asked = replace(spec, training=replace(spec.training, micro_batch_size=size))
        try:
            with mishaps.halving(place, key, size):
                measured, rows = _fit(asked, inputs, data, parts, place, key)
                return measured | {"micro_batch_size": size}, rows
        except torch.OutOfMemoryError:
            if size == 1:
                raise


def _fit(spec: RunSpec, inputs: Inputs, data: tokens.Tokens, parts: Any, place: Place, key: str) -> tuple[dict, list]:
    begin = time.perf_counter()
    reset_peak_memory()
    if inputs.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    checkpoints = Checkpoints(place.checkpoint, f"{key} {spec.training.micro_batch_size}", inputs.checkpoint_seconds)
    after = _keep_epoch(place) if spec.training.test_curve else None
    devices.tell(Fit(spec, *map(len, parts), place, key, checkpoints, after is not None))
    adapted, method, task = build(spec, inputs, data)
    run = training.Run(adapted.model, method, task, spec.training, spec.seed)
    setup = time.perf_counter() - begin
    progress = run.fit(data, *parts, checkpoints, after)
    save_weights(progress.best, place.weights)
    return _measured(spec, inputs, adapted, run, setup, parts), [asdict(row) for row in progress.history]


def _keep_epoch(place: Place) -> Any:
    def keep(model: torch.nn.Module, epoch: int) -> None:
        save_weights(methods.trained_state(model), place.epoch_weights(epoch))

    return keep


def save_weights(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors by name as safetensors, whole or not at all."""
    with files.whole(path) as temporary:
        try:
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
        except SafetensorError as error:  # the system's number stands in its text alone
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from None


def _measured(spec: RunSpec, inputs: Inputs, adapted: Any, run: training.Run, setup: float, parts: Any) -> dict:
    progress, engine = run.progress, run.engine
    history = progress.history
    chosen = history[progress.chosen_epoch - 1]
    seconds = sum(row.training_seconds for row in history)
    return {
        "learning_rate": spec.training.learning_rate,
        "epochs": len(history),
        "steps": progress.step,
        "chosen_epoch": progress.chosen_epoch,
        "validation_score": finite(chosen.validation_score),
        "validation_loss": finite(chosen.validation_loss),
        "train_examples": len(parts[0]),
        "validation_examples": len(parts[1]),
        "method_parameters": adapted.method_parameters,
        "head_parameters": adapted.head_parameters,
        "backbone_parameters": files.read_json(inputs.backbone / "manifest.json")["parameters"],
        "stored_bytes": sum(tensor.numel() * tensor.element_size() for tensor in progress.best.values()),
        "setup_seconds": setup,
        "training_seconds": seconds,
        "evaluation_seconds": sum(row.evaluation_seconds for row in history),
        # A GPU works behind the clock of its process, and waiting for it would cost time.
        **{
            f"{phase}_seconds": value if inputs.device.type == "cpu" else None
            for phase, value in progress.phase_seconds.items()
        },
        "examples_per_second": progress.examples_seen / seconds,
        "tokens_per_second": progress.tokens_seen / seconds,
        "peak_memory_bytes": peak_memory_bytes(),
        "peak_device_memory_bytes": torch.cuda.max_memory_allocated() if inputs.device.type == "cuda" else None,
        "device": torch.cuda.get_device_name() if inputs.device.type == "cuda" else "cpu",
        "devices": devices.count(),
        "threads": torch.get_num_threads(),
        "engine": "+".join(sorted(engine.tricks)) or "plain",
    }


def build(spec: RunSpec, inputs: Inputs, data: tokens.Tokens) -> tuple[methods.Adapted, methods.Method, tasks.Task]:
    """Return the adapted model of a run on its device; the same specification gives the same values, bit for bit."""
    gc.collect()  # the model of the run before: modules that the engine has wrapped refer to themselves
    method, task = methods.create(spec.adaptation, dict(spec.options)), tasks.create(spec.task)
    shape = backbones.shape_for(inputs.backbone, task)
    longest = data.about["longest"]
    if longest + method.extra_tokens > shape.positions:
        raise StudyError(
            f"methods.{spec.method}: {method.extra_tokens} added tokens and texts of up to {longest} tokens do not fit "
            f"the {shape.positions} positions of {spec.backbone}; lower datasets.{spec.dataset}.max_length, "
            "or set one for this backbone."
        )
    labels = data.about["labels"]
    loaded = backbones.load(inputs.backbone, task, len(labels), spec.seed, method.attention, labels)
    adapted = methods.adapt(method, loaded, shape, spec.seed)
    adapted.model.to(inputs.device)
    backbones.seed_torch(spec.seed, "training")  # from here on: dropout
    return adapted, method, task


def _rate(spec: RunSpec, inputs: Inputs, data: tokens.Tokens, parts: Any, checksums: Mapping[str, str]) -> float:
    """Return the run's learning rate; of several, the one whose short trial scores best on validation.

    Equal scores are told apart by the lower validation loss. All seeds of a cell share the choice.
    """
    rates = spec.training.learning_rate
    if not isinstance(rates, tuple):
        return rates
    place = Place((inputs.state / spec.path).parent)
    key = run_key(replace(spec, seed=spec.search.seed), checksums)
    with place.lock():
        found = place.holds("search.json", key)
        if found is None:
            trials = [_trial(spec, rate, inputs, data, parts) for rate in rates]
            best = max(trials, key=lambda trial: (trial["validation_score"] or -1, -(trial["validation_loss"] or 1e9)))
            found = place.seal("search.json", {"key": key, "trials": trials, "learning_rate": best["learning_rate"]})
            log.info(
                "%s: learning rate %g of %s", place.folder.name, best["learning_rate"], [f"{rate:g}" for rate in rates]
            )
    return found["learning_rate"]


def _trial(spec: RunSpec, rate: float, inputs: Inputs, data: tokens.Tokens, parts: Any) -> dict[str, Any]:
    search, place = spec.search, Place(inputs.state / spec.path)
    settings = replace(
        spec.training, learning_rate=rate, epochs=search.epochs, steps=None, minimum_steps=0, select="last"
    )
    spec = replace(spec, seed=search.seed, training=settings)
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
    """Return how many steps fit the run's seconds, by a short trial on this machine; one number for all seeds.

    With a number of steps, and not a clock, a run has a schedule, and goes on as it would have where it was stopped.
    """
    place = Place((inputs.state / spec.path).parent)
    key = run_key(replace(spec, seed=spec.search.seed), checksums)
    with place.lock():
        found = place.holds("budget.json", key)
        if found is None:
            seconds = [_step_seconds(spec, inputs, data, parts, steps) for steps in TRIAL_STEPS][-1]
            steps = max(1, round(spec.training.seconds / seconds))
            found = place.seal("budget.json", {"key": key, "step_seconds": seconds, "steps": steps})
            log.info("%s: %d steps in %g seconds", place.folder.name, steps, spec.training.seconds)
    return found["steps"]


def _step_seconds(spec: RunSpec, inputs: Inputs, data: tokens.Tokens, parts: Any, steps: int) -> float:
    settings = replace(spec.training, steps=steps, select="last")
    asked = replace(spec, seed=spec.search.seed, training=settings)
    devices.tell(Fit(asked, len(parts[0]), 0, Place(inputs.state / spec.path)))
    adapted, method, task = build(asked, inputs, data)
    run = training.Run(adapted.model, method, task, settings, asked.seed)
    begin = time.perf_counter()
    run.fit(data, parts[0], parts[1][:0], Checkpoints())
    if inputs.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / steps


def _publish_search(spec: RunSpec, inputs: Inputs) -> None:
    if isinstance(spec.training.learning_rate, tuple):
        cell = (inputs.state / spec.path).parent
        if (cell / "search.json").exists():
            Place(cell).publish(["search.json"], (inputs.output / spec.path).parent)
