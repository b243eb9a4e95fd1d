"""A trained model that is handed on: what it was made from, and the lines of Python that make its backbone again."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from peftstudy import backbones, methods, tasks
from peftstudy.shapes import Shape

BACKBONE = "backbone"
"""The folder within that holds a backbone which no hub has."""


@dataclass(frozen=True)
class Trained:
    """A trained model, and what it was made from.

    weights: what was trained, by name. repository, revision: of a backbone from the hub; None for the others, which go
    into the folder.
    """

    method: methods.Method
    task: tasks.Task
    backbone: Path
    shape: Shape
    seed: int
    labels: tuple[str, ...]
    weights: Mapping[str, Tensor]
    repository: str | None = None
    revision: str | None = None

    def loaded(self) -> backbones.Loaded:
        """Return the backbone with its fresh head."""
        return backbones.load(self.backbone, self.task, len(self.labels), self.seed, self.method.attention, self.labels)

    @cached_property
    def fresh(self) -> Any:
        """The backbone with its fresh head, to look at and not to change."""
        return self.loaded().model

    def adapted(self) -> methods.Adapted:
        """Return the model as it was trained."""
        found = methods.adapt(self.method, self.loaded(), self.shape, self.seed)
        methods.load_trained(found.model, self.weights)
        return found

    @property
    def auto_class(self) -> str:
        """The transformers Auto class that reads the backbone."""
        return backbones.auto_class(self.task, self.shape)

    def line(self, place: str, *asked: str) -> str:
        """Return the line that makes a transformers model of what lies at a place."""
        is_eager = self.method.attention == "eager" or not self.shape.about.sdpa
        asked = (f'"{place}"', *asked, *(['attn_implementation="eager"'] if is_eager else []))
        return f"model = {self.auto_class}.from_pretrained({', '.join(asked)})"

    def base_line(self) -> str:
        """Return the line that makes the backbone with a fresh head."""
        asked = [f'revision="{self.revision}"'] if self.repository else []
        asked += [] if self.task.writes else [f"num_labels={self.task.outputs(len(self.labels))}"]
        return self.line(self.repository or BACKBONE, *asked)
