"""tokens -> runs: train the runs of a pack in one process, the missing ones only.

Training is given the training and validation parts; evaluation.py, which scores what was trained,
is given the test part.
"""

import errno
import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from peftstudy import building, devices, energy, files, methods, mishaps, origins, splits, tokens, training, trials
from peftstudy.building import Fit, Inputs, build
from peftstudy.checkpoints import Checkpoints
from peftstudy.provenance import provenance
from peftstudy.records import TRAINED, Place, finite, run_key, write_rows
from peftstudy.specs import RunSpec, several

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


def train_pack(
    runs: Sequence[RunSpec], inputs: Inputs, train: Path, validation: Path, kept: Collection[str] = ()
) -> list[Mapping[str, Any]]:
    """Train those of the runs that are not there yet; return the records of all, in order.

    kept: the methods whose weights other runs read: a run that is there without them is trained again.
    """
    checksums = inputs.checksums | {"train": files.sha256(train), "validation": files.sha256(validation)}
    parts = splits.load_part(train), splits.load_part(validation)
    data = tokens.load(inputs.tokens)
    inputs.check_backbone()
    records = []
    for number, spec in enumerate(runs, 1):
        place = Place(inputs.state / spec.path)
        key = run_key(spec, checksums | origins.checksums(spec, inputs))
        with place.lock():
            record = place.holds("record.json", key)
            if record is not None and spec.method in kept and _lacks_weights(record, place):
                log.info("%s: other runs start from it, and its weights were not kept: trained again", spec.path)
                (place.folder / "test.json").unlink(missing_ok=True)  # it was of the weights that are gone
                record = None
            if record is None or (record["status"] == "failed" and not mishaps.noted(place)):
                record = _train(spec, inputs, data, parts, place, key, checksums)
                log.info("%d/%d %s: %s", number, len(runs), spec.path, summary(record))
            place.publish(TRAINED, inputs.output / spec.path)
            _publish_search(spec, inputs)
        records.append(record)
    devices.tell()
    return records


def _lacks_weights(record: Mapping[str, Any], place: Place) -> bool:
    return record["status"] == "finished" and not place.weights.exists()


def follow(inputs: Inputs, train: Path, validation: Path) -> None:
    """Train along with the process that does a pack of runs, on a device of its own, until that has no more to do."""
    parts = splits.load_part(train), splits.load_part(validation)
    data = tokens.load(inputs.tokens)
    while told := devices.tell():
        with mishaps.note(told.place):
            adapted, method, task = build(told.spec, inputs, data)
            run = training.Run(adapted.model, method, task, told.spec.training, told.spec.seed)
            after = (lambda model, epoch: methods.trained_state(model)) if told.gathers else None
            with mishaps.halving(told.place, told.key, run.part_size):
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
    made_from = {**checksums, **origins.checksums(spec, inputs)}
    began = {"asked": spec.as_dict(), "key": key, "provenance": provenance() | {"inputs": made_from}}
    rows: list[dict[str, Any]] = []
    reason = mishaps.noted(place)
    try:
        reason = reason or origins.fault(spec, inputs) or building.misfit(spec, inputs, data)
        if reason is None:
            with mishaps.note(place):
                measured, rows = _fit_in_memory(spec, inputs, data, parts, place, key, checksums)
    except mishaps.ENDS:
        raise
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


def _fit_in_memory(
    spec: RunSpec, inputs: Inputs, data: tokens.Tokens, parts: Any, place: Place, key: str, checksums: Mapping[str, str]
) -> tuple[dict, list]:
    """Train a run; when the device's memory is too small, from the start with micro-batches of half the size.

    The gradients of a batch's parts add up to the same update, but for rounding and for other dropout masks. The size
    that fits is kept, so that a run that is interrupted after all does not try the others again. So it is for its
    trials.
    """
    while True:
        kept = place.holds("memory.json", key)
        size = kept["micro_batch_size"] if kept else min(spec.training.micro_batch_size, spec.training.batch_size)
        try:
            asked = trials.Trials(inputs, data, parts, checksums, key, size).settle(spec)
            asked = replace(asked, training=replace(asked.training, micro_batch_size=size))
            measured, rows = _fit(asked, inputs, data, parts, place, key)
            return measured | {"micro_batch_size": size}, rows
        except torch.OutOfMemoryError:
            if place.holds("memory.json", key) == kept:  # there is no smaller size, or it was not the batch's memory
                raise


def _fit(spec: RunSpec, inputs: Inputs, data: tokens.Tokens, parts: Any, place: Place, key: str) -> tuple[dict, list]:
    begin = time.perf_counter()
    training.reset_peaks(inputs.device)
    checkpoints = Checkpoints(place.checkpoint, f"{key} {spec.training.micro_batch_size}", inputs.checkpoint_seconds)
    after = _keep_epoch(place) if spec.training.test_curve else None
    devices.tell(Fit(spec, *map(len, parts), place, key, checkpoints, after is not None))
    adapted, method, task = build(spec, inputs, data)
    run = training.Run(adapted.model, method, task, spec.training, spec.seed)
    setup = time.perf_counter() - begin
    with mishaps.halving(place, key, run.part_size):
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
    progress = run.progress
    history = progress.history
    chosen = history[progress.chosen_epoch - 1]
    seconds = sum(row.training_seconds for row in history)
    peak_bytes, peak_device_bytes = run.peaks()
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
        "peak_memory_bytes": peak_bytes,
        "peak_device_memory_bytes": peak_device_bytes if inputs.device.type == "cuda" else None,
        **energy.measured(*progress.joules, run.meter, inputs.device.type == "cuda"),
        "device": torch.cuda.get_device_name() if inputs.device.type == "cuda" else "cpu",
        "devices": devices.count(),
        "threads": torch.get_num_threads(),
        "engine": progress.engine,
    }


def _publish_search(spec: RunSpec, inputs: Inputs) -> None:
    if several(spec.training.learning_rate):
        cell = (inputs.state / spec.path).parent
        if (cell / "search.json").exists():
            Place(cell).publish(["search.json"], (inputs.output / spec.path).parent)
