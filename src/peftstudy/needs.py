"""What a job needs of a machine: memory by the size of its backbone, time by what finished runs took."""

import math
from pathlib import Path

from peftstudy import files
from peftstudy.errors import StudyError
from peftstudy.shapes import planned_shape, read_shape
from peftstudy.specs import Backbone, expanded
from peftstudy.study import Pack, Study

PROCESS_MB = 2500
"""Python, torch and transformers (600 MB), the two Snakemakes around them (200 MB each), and data."""
BYTES_A_PARAMETER = 32
"""Weights, gradient and two moments in float32 (16), the best epoch's copy and a checkpoint on its way."""
DISK_BYTES_A_PARAMETER = 20
"""A checkpoint and the trained weights of a run that trains all of them; they go when it is scored."""
WATTS = {"gpu": 300.0, "cpu": 15.0}
"""A guess of what a GPU draws with its share of the machine, and a core of a processor."""
UNKNOWN_PARAMETERS = 125_000_000
"""Of a backbone that is not here yet and says nothing of its shape: BERT's and RoBERTa's base sizes."""
UNKNOWN_EXAMPLES = 10_000
"""Of a dataset that is taken whole: how many there are is not known before it is read."""
START_MINUTES = 10
"""To load libraries and data, and a reserve."""
RESERVE = 2.0
"""How many times longer than expected a job may take at its first attempt."""


def parameters(study: Study, name: str) -> int:
    """Return how many parameters a backbone has, or will have, without its head."""
    backbone = study.backbones[name]
    manifest = Path("results") / study.name / "backbones" / name / "manifest.json"
    if manifest.exists():
        return files.read_json(manifest)["parameters"]
    if backbone.random:
        return parameters(study, backbone.random)
    try:
        return _planned(backbone)
    except (StudyError, OSError, ValueError):  # what is wrong with it, the job says that takes it
        return UNKNOWN_PARAMETERS


def is_guess(study: Study, name: str) -> bool:
    """Whether nothing is known yet of how many parameters a backbone has."""
    return parameters(study, name) == UNKNOWN_PARAMETERS


def _planned(backbone: Backbone) -> int:
    """Return the parameters of a shape that is to be pre-trained, or of a folder on this machine."""
    if backbone.folder:
        return read_shape(expanded(backbone.folder), backbone.family).parameters
    if not backbone.pretrain:
        return UNKNOWN_PARAMETERS
    asked = backbone.pretrain
    return planned_shape(asked.family, dict(asked.shape), asked.vocabulary).parameters


def work(study: Study, pack: Pack, parameters: int) -> float:
    """Return what training a pack takes beside others, up to a factor; parameters: of its backbone."""
    examples = study.datasets[pack.dataset].examples or UNKNOWN_EXAMPLES
    kind, _, number = pack.split.partition("-")
    share = int(kind if kind.isdigit() else number or 100) / (examples if kind == "size" else 100)
    return examples * min(share, 1.0) * study.max_length(pack.dataset, pack.backbone) * parameters * len(pack.runs)


def memory_mb(parameters: int, attempt: int) -> int:
    """Return the megabytes that a job may take, more at each attempt.

    >>> memory_mb(4_400_000, 1), memory_mb(110_000_000, 1), memory_mb(110_000_000, 2)
    (2641, 6020, 12040)
    """
    return attempt * math.ceil(PROCESS_MB + BYTES_A_PARAMETER * parameters / 1e6)


def gres(asked: str, devices: int) -> str:
    """Return what sbatch's --gres wants to hear for so many devices, each of which takes what is asked.

    >>> gres("gpu:a100:1", 2), gres("gpu:2", 2), gres("gpu:a100", 2)
    ('gpu:a100:2', 'gpu:4', 'gpu:a100:2')
    """
    name, _, count = asked.rpartition(":")
    return f"{name}:{devices * int(count)}" if count.isdigit() else f"{asked}:{devices}"


def minutes(seconds: float, attempt: int) -> int:
    """Return the time limit of a job that is expected to take so many seconds, more at each attempt.

    >>> minutes(600, 1), minutes(600, 2)
    (30, 60)
    """
    return attempt * math.ceil(START_MINUTES + RESERVE * seconds / 60)
