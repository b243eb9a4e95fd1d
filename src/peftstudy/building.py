"""What a run is made of: the folders that it reads, what its processes do together, and the adapted model."""

import gc
from dataclasses import dataclass, field
from pathlib import Path

import torch

from peftstudy import backbones, files, methods, origins, seeds, tasks, tokens
from peftstudy.checkpoints import Checkpoints
from peftstudy.errors import StudyError
from peftstudy.families import DECODER
from peftstudy.records import Place
from peftstudy.shapes import Shape
from peftstudy.specs import RunSpec


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

    train, validation: how many examples of each part. place, key: of the run that it is for, or whose trial it is.
    """

    spec: RunSpec
    train: int
    validation: int
    place: Place
    key: str
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    gathers: bool = False


def build(spec: RunSpec, inputs: Inputs, data: tokens.Tokens) -> tuple[methods.Adapted, methods.Method, tasks.Task]:
    """Return the adapted model of a run on its device; the same specification gives the same values, bit for bit."""
    gc.collect()  # the model of the run before: modules that the engine has wrapped refer to themselves
    method, task = origins.method_of(spec, inputs), tasks.create(spec.task, metric=spec.metric)
    if reason := _misfit(spec, method, data, shape := backbones.shape_for(inputs.backbone, task)):
        raise StudyError(reason)
    labels = data.about["labels"]
    first = seeds.initialization(spec.seed)
    loaded = backbones.load(inputs.backbone, task, len(labels), first, method.attention, labels)
    adapted = methods.adapt(method, loaded, shape, first)
    adapted.model.to(inputs.device)
    backbones.seed_torch(seeds.order(spec.seed), "training")  # from here on: dropout
    return adapted, method, task


def misfit(spec: RunSpec, inputs: Inputs, data: tokens.Tokens) -> str | None:
    """Return why the texts, with what the method adds to them, have no room in the backbone; None where they have."""
    task = tasks.create(spec.task)
    method = methods.create(spec.adaptation, dict(spec.options))
    return _misfit(spec, method, data, backbones.shape_for(inputs.backbone, task))


def _misfit(spec: RunSpec, method: methods.Method, data: tokens.Tokens, shape: Shape) -> str | None:
    # A decoder reads a target behind its source, and writes behind it; an encoder-decoder has a stack for each.
    longest, written = data.about["longest"], data.about.get("target_length", 0)
    if shape.about.kind == DECODER:
        longest = max(longest + written, data.about.get("longest_whole", 0))
    elif written > shape.positions:
        return (
            f"datasets.{spec.dataset}.target_length: found {written}, and {spec.backbone} has {shape.positions} "
            "positions; lower it."
        )
    if longest + method.extra_tokens <= shape.positions:
        return None
    lower = f"lower datasets.{spec.dataset}.max_length{' or target_length' if written else ''}"
    return (
        f"methods.{spec.method}: {method.extra_tokens} added tokens and texts of up to {longest} tokens do not fit "
        f"the {shape.positions} positions of {spec.backbone}; {'add fewer, ' if method.extra_tokens else ''}"
        f"{lower}, or set one for this backbone."
    )
