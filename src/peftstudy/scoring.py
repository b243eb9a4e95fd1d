"""A model's answers to some examples, and their scores."""

import functools
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from peftstudy import devices
from peftstudy.engine import Engine
from peftstudy.errors import StudyError
from peftstudy.tasks import Task
from peftstudy.tokens import Tokens

log = logging.getLogger(__name__)

EVALUATION_BATCH = 32
"""Examples at a time, sorted by length, so that little is padding; more are no faster on a processor, and make
evaluation what a run needs most memory for."""


@dataclass(frozen=True)
class Scored:
    """A model's answers to some examples, a row each, the mean loss of an item, and the scores."""

    answers: pa.Table
    loss: float
    scores: dict[str, float]


def evaluate(engine: Engine, task: Task, tokens: Tokens, index: np.ndarray, precision: str) -> Scored | None:
    """Score the model on the examples numbered `index`, in their order; None when there are none."""
    if not len(index):
        return None
    engine.model.eval()
    by_length = np.argsort(tokens.sizes[index], kind="stable")
    answers, total = [], 0.0
    start, size = 0, EVALUATION_BATCH
    with torch.inference_mode(), autocast(engine.device, precision):
        while start < len(index):
            part = index[by_length[start : start + size]]
            try:
                output = task.logits(engine, tokens, part).float()
                loss = float(task.loss_sum(output, targets(task, tokens, part, engine.device)))
                answers.append(task.answer(engine, output, tokens, part))
            except torch.OutOfMemoryError as error:
                size = _half(part, error)  # for all that follow, too: they are longer
                continue
            total += loss
            start += len(part)
    ordered = pa.concat_tables(answers).take(np.argsort(by_length))
    scores = task.score(ordered["predicted"].to_pylist(), ordered["label"].to_pylist(), tokens.about["labels"])
    return Scored(ordered, total / task.items(tokens, index), scores)


def _half(part: np.ndarray, error: torch.OutOfMemoryError) -> int:
    """Return half the size of a part for which the device's memory is too small.

    Raises StudyError where that is one example, for which no other size of a training's batches makes room; on several
    devices the error itself, for the other processes are in the middle of the same part.
    """
    if devices.count() > 1:
        raise error
    said = f"out of device memory in evaluation ({' '.join(str(error).split())[:120]})"
    if len(part) == 1:
        raise StudyError(f"{said}, by one example alone; lower the dataset's max_length, target_length or beams.")
    half = (len(part) + 1) // 2
    log.warning("%s; again with %d examples at a time", said, half)
    return half


def targets(task: Task, tokens: Tokens, index: np.ndarray, device: torch.device) -> Tensor:
    """Return what the answers to some examples are held against, on a device; its shape is the task's."""
    return torch.from_numpy(task.targets(tokens, index)).to(device)


def autocast(device: torch.device, precision: str) -> Any:
    """Return the context of a forward pass: bfloat16 where the settings ask for it, else nothing."""
    if precision != "bfloat16":
        return nullcontext()
    if device.type == "cpu":
        _tell_of_detours()
    return torch.autocast(device.type, torch.bfloat16)


@functools.cache
def _tell_of_detours() -> None:
    """Say once that a processor has no instructions for bfloat16, where oneDNN, which would use them, knows."""
    knows = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    if knows is not None and not knows():
        log.warning("precision: this processor has no instructions for bfloat16; float32 takes a fraction of the time")
