"""What a configuration's blocks become: frozen values, down to the RunSpec that decides one run."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from peftstudy import seeds
from peftstudy.families import USUAL
from peftstudy.files import matching

PROTOCOL = 1
"""Raised when records made before stop being comparable with those made after."""

DEFINITIONS = "definitions"
"""The column of a docstrings' view that keeps together what its examples show of the same definitions."""

KINDS = ("hub", "folder", "pretrain", "random")
"""Where a backbone comes from."""
UNREAD_VOCABULARY = 50_265
"""The size of a tokenizer in a folder, as far as plans go, which do not read it: RoBERTa's."""

Options = tuple[tuple[str, Any], ...]
Spec = TypeVar("Spec", "Source", "Dataset", "Backbone")


@dataclass(frozen=True)
class Range:
    """Where a sampler takes so many learning rates from, each in the light of those before it."""

    low: float
    high: float
    trials: int

    def __len__(self) -> int:
        return self.trials


Rates = tuple[float, ...] | Range


def several(rate: float | Rates | None) -> bool:
    """Whether a learning rate is one of several, still to be chosen."""
    return isinstance(rate, tuple | Range)


@dataclass(frozen=True)
class Training:
    """The budget of one run and how it is spent; equal for all methods of a study. The schema describes each setting.

    epochs: passes over the training part. steps, seconds: optimizer steps, or as many as fit these seconds of
    training, in place of epochs. minimum_steps: epochs are added until there are so many.
    batch_size: examples an optimizer step. micro_batch_size: examples a forward pass.
    learning_rate: the highest. warmup: the share of the steps in which it rises; then it falls to 0.
    weight_decay: AdamW's, for matrices only. gradient_norm: the L2 norm that longer gradients are scaled down to.
    """

    epochs: int = 3
    steps: int | None = None
    minimum_steps: int = 0
    batch_size: int = 32
    micro_batch_size: int = 32
    learning_rate: float | Rates = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    gradient_norm: float = 1.0
    precision: str = "float32"
    select: str = "best"
    test_curve: bool = False
    dropout_in_frozen_body: bool = True
    activation_checkpointing: bool = False
    engine: str | tuple[str, ...] = "fast"
    seconds: float | None = None


LATER = {"": ("code", "metric"), "training": ("seconds",), "search": ("sampler",)}
"""Settings that came after the first records, by their block: requests that go without them do not name them, and so
are those that they were."""


@dataclass(frozen=True)
class Search:
    """How one of several learning rates is chosen: short trials, scored on validation.

    sampler: which of optuna's takes the rates of a range, one after another; None draws them beforehand.
    """

    epochs: int = 1
    examples: int | None = None
    seed: int = 0
    sampler: str | None = None


@dataclass(frozen=True)
class Dataset:
    """Named examples of one source and the task that they pose. The schema describes each setting.

    text, label, choices, group: columns of the source's table. labels: the classes that count; names: what they are
    called. parts: the official ones that are pooled. examples: how many are drawn at most.
    max_length: tokens of a text, special tokens included. target_length: tokens of what is written.
    data_seed: of the draw and the splits; None is the study's. training: what its budget has in place of the study's.
    methods, splits: those that it is run with; none named are all. test_from: the dataset whose test part is scored.
    """

    name: str
    source: str
    task: str
    text: tuple[str, ...]
    label: str
    labels: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    metric: str | None = None
    parts: tuple[str, ...] = ()
    examples: int | None = None
    balanced: bool = False
    max_length: int = 128
    choices: tuple[str, ...] = ()
    blank: str | None = None
    group: str | None = None
    data_seed: int | None = None
    beams: int = 1
    target_length: int = 64
    methods: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    training: Options = ()
    test_from: str | None = None
    gathered: bool = False

    def without_length(self) -> "Dataset":
        """The dataset as far as it decides which examples there are."""
        return replace(self, max_length=Dataset.max_length, methods=(), splits=(), training=())


@dataclass(frozen=True)
class Pretraining:
    """How a backbone is trained from random weights, by the objective of its family.

    bag_of_words: the weight of a second loss, by which the first token predicts the words of its block.
    corrupted: the share of the tokens that are hidden; None is that of the objective's paper.
    mean_span: how many tokens a hidden piece has on average. permute_sentences: whether BART's are put in order, too.
    validation: the share of the texts that is kept out of the training, for the loss at its end.
    """

    family: str
    shape: Options
    tokenizer: Options
    corpus: Options
    steps: int
    exclude: tuple[str, ...] | None = None
    max_tokens: int | None = None
    batch_size: int = 64
    block_length: int = 64
    learning_rate: float = 1e-3
    bag_of_words: float = 0.0
    precision: str = "float32"
    seed: int = 0
    corrupted: float | None = None
    mean_span: float = 3.0
    permute_sentences: bool = True
    validation: float = 0.0

    def size(self, name: str) -> int:
        """Return a size by BERT's name for it; what the shape leaves out is BERT-base's."""
        return dict(self.shape).get(name, USUAL[name])

    @property
    def vocabulary(self) -> int:
        """How many words its tokenizer has, as far as that is known before it is there."""
        return dict(self.tokenizer).get("vocabulary", UNREAD_VOCABULARY)


@dataclass(frozen=True)
class Backbone:
    """A language model and where it comes from: exactly one of KINDS."""

    name: str
    hub: str | None = None
    revision: str | None = None
    folder: str | None = None
    random: str | None = None
    pretrain: Pretraining | None = None
    family: str | None = None
    end: str | None = None
    max_length: int | None = None
    devices: int = 1
    methods: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Where it comes from, one of KINDS."""
        return next(kind for kind in KINDS if getattr(self, kind))

    def inputs(self) -> list[str]:
        """Return the local files that decide the backbone, as far as they exist."""
        if not self.reads:
            return []
        kinds = ("*.json", "*.safetensors", "*.txt")
        return sorted(str(path) for kind in kinds for path in expanded(self.reads).glob(kind))

    @property
    def reads(self) -> str | None:
        """The folder on this machine that it is made from: the model's, or its tokenizer's."""
        return self.folder or (dict(self.pretrain.tokenizer).get("folder") if self.pretrain else None)

    def without_grid(self) -> "Backbone":
        """The backbone as far as it decides its weights: not what it is run with."""
        return replace(self, max_length=None, devices=1, methods=(), splits=(), datasets=())


def expanded(path: str) -> Path:
    """Return a path with ~ and the environment variables that are set expanded."""
    return Path(os.path.expandvars(path)).expanduser()


@dataclass(frozen=True)
class Source:
    """Files of one kind (docstrings, files, hub), and the kind's options."""

    name: str
    kind: str
    options: Options = ()

    def inputs(self) -> list[str]:
        """Return the local files that decide the source, as far as they exist."""
        if self.kind == "docstrings":
            return ["requirements.lock"]
        if self.kind == "hub":
            return []
        options = dict(self.options)
        folder = expanded(options["path"])
        names = [name for _, part in options.get("files", ()) for name in ([part] if isinstance(part, str) else part)]
        found = [path for name in names for path in matching(folder, name)]
        for part, labels in options.get("classes", ()):
            found += [path for label in labels for path in (folder / part / label).glob("*.txt")]
        return sorted(map(str, found))


@dataclass(frozen=True)
class MethodSpec:
    """A method of the study: its name here, the registered method, and its options.

    of, trained_on: the method of the study, and the datasets, whose runs its own start from; without datasets, all.
    code: what its file is known by, where that is one of the user's own (see registry.code_of).
    """

    name: str
    method: str
    options: Options = ()
    learning_rate: float | Rates | None = None
    of: str | None = None
    trained_on: tuple[str, ...] = ()
    code: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        """What the configuration says of it, but for learning rates."""
        named = {"of": self.of, "trained_on": self.trained_on}
        return dict(self.options) | {key: value for key, value in named.items() if value}


@dataclass(frozen=True)
class Claim:
    """A sentence and the statements that it means; see evidence/claims.py. Empty places are the study's own."""

    sentence: str
    means: tuple[str, ...]
    datasets: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides the outcome of one run, but for the bytes of its inputs.

    metric: the main one, where it is not the task's own. origins: the runs whose trained weights it starts from, where
    that is more than its backbone. code: what a method's file of the user's own is known by.
    """

    dataset: str
    split: str
    backbone: str
    method: str
    seed: seeds.Seed
    task: str
    adaptation: str
    options: Options
    training: Training
    search: Search
    protocol: int = PROTOCOL
    metric: str | None = None
    origins: tuple["RunSpec", ...] = ()
    code: str = ""

    @property
    def path(self) -> str:
        """The run's name: its folder under results/<study>/runs/."""
        return f"{self.cell}/seed-{self.seed}"

    @property
    def cell(self) -> str:
        """What its seeds have in common: the folder of the run's own."""
        return f"{self.dataset}/{self.split}/{self.backbone}/{self.method}"

    @property
    def depth(self) -> int:
        """How many runs at most stand before it, each started from the one before."""
        return max((1 + origin.depth for origin in self.origins), default=0)

    @property
    def reads(self) -> tuple["RunSpec", ...]:
        """The runs whose weights it reads: those that it starts from, and that its cell's trials start from."""
        has_trials = self.origins and (several(self.training.learning_rate) or self.training.seconds)
        trials = self.with_seed(self.search.seed).origins if has_trials else ()
        return tuple(dict.fromkeys(self.origins + trials))

    def with_seed(self, seed: seeds.Seed) -> "RunSpec":
        """Return the run of another seed of the same cell, which starts from runs of that seed."""
        return replace(self, seed=seed, origins=tuple(origin.with_seed(seed) for origin in self.origins))

    def as_dict(self) -> dict[str, Any]:
        """Return the specification in plain JSON values, as records keep it."""
        own = asdict(replace(self, origins=())) | {"options": dict(self.options)}
        value = json.loads(json.dumps(own | {"origins": [origin.as_dict() for origin in self.origins]}))
        if not self.origins:  # as it was before there were any
            del value["origins"]
        for block, names in LATER.items():
            own, told = (getattr(self, block), value[block]) if block else (self, value)
            for name in names:
                if getattr(own, name) == getattr(type(own), name):
                    del told[name]
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "RunSpec":
        training = {"engine": "plain", **value["training"]}  # the only one there was before the setting
        if isinstance(training.get("learning_rate"), Mapping):
            training["learning_rate"] = Range(**training["learning_rate"])
        training |= {name: freeze(training[name]) for name in ("learning_rate", "engine") if name in training}
        return cls(
            **{**value, "options": freeze(value["options"]), "seed": seeds.seed(value["seed"]),
               "training": Training(**training), "search": Search(**value["search"]),
               "origins": tuple(map(cls.from_dict, value.get("origins", ())))}
        )  # fmt: skip


def to_json(spec: Source | Dataset | Backbone | Pretraining) -> str:
    """Return a specification as JSON for the command line; parse() makes it again.

    What has its default is left out, so that a setting which is added later changes no job that goes without.
    """
    return json.dumps(_told(spec), separators=(",", ":"), sort_keys=True)


def digest(spec: Source | Backbone) -> str:
    """Return what a specification is known by in the manifest of what was made of it."""
    return hashlib.sha256(to_json(spec).encode()).hexdigest()


def _told(value: Any) -> Any:
    if not is_dataclass(value):
        return value
    own = {field: getattr(value, field.name) for field in fields(value)}
    return {field.name: _told(content) for field, content in own.items() if content != field.default}


def parse(kind: type[Spec], text: str) -> Spec:
    """Return the specification that to_json() wrote."""
    plain = json.loads(text)
    pretrain = plain.pop("pretrain", None)
    values = {key: freeze(value) for key, value in plain.items()}
    if pretrain:
        values["pretrain"] = Pretraining(**{key: freeze(value) for key, value in pretrain.items()})
    return kind(**values)


def freeze(value: Any) -> Any:
    """Return a JSON value with its lists as tuples and its objects as tuples of sorted pairs."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, freeze(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value
