"""What a job needs of a machine: memory by the size of its backbone, time by what finished runs took."""

import math
from pathlib import Path

from peftstudy import files
from peftstudy.errors import StudyError
from peftstudy.shapes import planned_shape
from peftstudy.specs import Backbone
from peftstudy.study import Study

PROCESS_MB = 2500
"""Python, torch and transformers (600 MB), the two Snakemakes around them (200 MB each), and data."""
BYTES_A_PARAMETER = 32
"""Weights, gradient and two moments in float32 (16), the best epoch's copy and a checkpoint on its way."""
UNKNOWN_PARAMETERS = 125_000_000
"""Of a backbone that is not there yet and says nothing of its shape: BERT's and RoBERTa's base sizes."""
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
    return _planned(backbone) if backbone.pretrain else UNKNOWN_PARAMETERS


def _planned(backbone: Backbone) -> int:
    """Return the parameters of a shape that is to be pre-trained; those of BERT's base where it says nothing."""
    asked = backbone.pretrain
    vocabulary = dict(asked.tokenizer).get("vocabulary", 50_265)
    try:
        return planned_shape(asked.family, dict(asked.shape), vocabulary).parameters
    except StudyError:
        return UNKNOWN_PARAMETERS


def memory_mb(parameters: int, attempt: int) -> int:
    """Return the megabytes that a job may take, more at each attempt.

    >>> memory_mb(4_400_000, 1), memory_mb(110_000_000, 1), memory_mb(110_000_000, 2)
    (2641, 6020, 12040)
    """
    return attempt * math.ceil(PROCESS_MB + BYTES_A_PARAMETER * parameters / 1e6)


def minutes(seconds: float, attempt: int) -> int:
    """Return the time limit of a job that is expected to take so many seconds, more at each attempt.

    >>> minutes(600, 1), minutes(600, 2)
    (30, 60)
    """
    return attempt * math.ceil(START_MINUTES + RESERVE * seconds / 60)
