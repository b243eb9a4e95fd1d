"""The weights of a finished run: those that the study kept, or else the same run once more, bit for bit."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from peftstudy import files, splits, tokens, training
from peftstudy.building import Inputs, build
from peftstudy.checkpoints import Checkpoints
from peftstudy.records import Place
from peftstudy.specs import RunSpec

log = logging.getLogger(__name__)


def of(spec: RunSpec, record: Mapping[str, Any], inputs: Inputs, parts: Path) -> tuple[dict[str, Tensor], str]:
    """Return the trained tensors of a run by name, and where they are from.

    parts: the folder of its split. Kept weights whose checksum is not the record's are passed over.
    """
    asked, kept = record.get("weights_sha256"), Place(inputs.state / spec.path).weights
    if kept.exists() and files.sha256(kept) == asked:
        return load_file(kept), "as the run left them"
    measured = record["measured"]
    log.info("its weights were not kept: training it again (%.0f s of training then)", measured["training_seconds"])
    found = {name: tensor.cpu().contiguous() for name, tensor in again(spec, measured, inputs, parts).items()}
    same = sha256(save(found)).hexdigest() == asked
    return found, "from training the run again, " + ("the same to the bit" if same else "not the same to the bit")


def again(spec: RunSpec, measured: Mapping[str, Any], inputs: Inputs, parts: Path) -> Mapping[str, Tensor]:
    """Return what training a run once more comes to, with the rate, steps, batches and threads that it had."""
    settings = replace(
        spec.training,
        learning_rate=measured["learning_rate"],
        micro_batch_size=measured.get("micro_batch_size", spec.training.micro_batch_size),
        steps=measured["steps"] if spec.training.seconds else spec.training.steps,
    )
    if measured.get("threads") and inputs.device.type == "cpu":
        torch.set_num_threads(measured["threads"])
    spec, data = replace(spec, training=settings), tokens.load(inputs.tokens)
    adapted, method, task = build(spec, inputs, data)
    run = training.Run(adapted.model, method, task, settings, spec.seed)
    train, validation = (splits.load_part(parts / f"{part}.npy") for part in ("train", "validation"))
    return run.fit(data, train, validation, Checkpoints()).best
