"""The configuration as a typed grid: a Study holds everything, a RunSpec what decides one run."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

PROTOCOL = 1
"""Raised when records made before stop being comparable with those made after."""

Options = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Training:
    """The budget of one run and how it is spent; equal for all methods of a study."""

    epochs: int = 3
    steps: int | None = None
    minimum_steps: int = 0
    batch_size: int = 32
    micro_batch_size: int = 8
    learning_rate: float | tuple[float, ...] = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    gradient_norm: float = 1.0
    precision: str = "float32"
    select: str = "best"
    test_curve: bool = False


@dataclass(frozen=True)
class Search:
    """How one of several learning rates is chosen: short trials, scored on validation."""

    epochs: int = 1
    examples: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Dataset:
    """Named examples of one source and the task that they pose."""

    name: str
    source: str
    task: str
    text: tuple[str, ...]
    label: str
    labels: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    examples: int | None = None
    max_length: int = 128


@dataclass(frozen=True)
class Pretraining:
    """How a backbone is trained from random weights by masked-language modelling."""

    family: str
    shape: Options
    tokenizer: Options
    corpus: Options
    steps: int
    exclude: tuple[str, ...] = ()
    max_tokens: int | None = None
    batch_size: int = 64
    block_length: int = 64
    learning_rate: float = 1e-3
    precision: str = "float32"
    seed: int = 0


@dataclass(frozen=True)
class Backbone:
    """A language model and where it comes from: exactly one of hub, folder, random, pretrain."""

    name: str
    hub: str | None = None
    revision: str | None = None
    folder: str | None = None
    random: str | None = None
    pretrain: Pretraining | None = None
    methods: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return next(kind for kind in ("hub", "folder", "random", "pretrain") if getattr(self, kind))


@dataclass(frozen=True)
class Source:
    """Files of one kind (docstrings, files, hub), and the kind's options."""

    name: str
    kind: str
    options: Options = ()


@dataclass(frozen=True)
class MethodSpec:
    """A method of the study: its name here, the registered method, and its options."""

    name: str
    method: str
    options: Options = ()
    learning_rate: float | tuple[float, ...] | None = None


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides the outcome of one run, but for the bytes of its inputs."""

    dataset: str
    split: str
    backbone: str
    method: str
    seed: int
    task: str
    adaptation: str
    options: Options
    training: Training
    search: Search
    protocol: int = PROTOCOL

    @property
    def path(self) -> str:
        """The run's name: its folder under results/<study>/runs/."""
        return f"{self.dataset}/{self.split}/{self.backbone}/{self.method}/seed-{self.seed}"

    def as_dict(self) -> dict[str, Any]:
        """Return the specification in plain JSON values, as records keep it."""
        return json.loads(json.dumps(asdict(self) | {"options": dict(self.options)}))

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "RunSpec":
        training = dict(value["training"])
        training["learning_rate"] = freeze(training["learning_rate"])
        return cls(
            **{**value, "options": freeze(value["options"]),
               "training": Training(**training), "search": Search(**value["search"])}
        )  # fmt: skip


@dataclass(frozen=True)
class Pack:
    """The runs that one job does: some methods, all seeds, on one backbone and split."""

    dataset: str
    split: str
    backbone: str
    number: int
    runs: tuple[RunSpec, ...]

    @property
    def name(self) -> str:
        return f"{self.dataset}_{self.split}_{self.backbone}_{self.number}"

    @property
    def json(self) -> str:
        """The pack's runs for the command line, each cell once with its seeds."""
        cells: dict[RunSpec, list[int]] = {}
        for run in self.runs:
            cells.setdefault(replace(run, seed=0), []).append(run.seed)
        plain = [{**cell.as_dict(), "seed": seeds} for cell, seeds in cells.items()]
        return json.dumps(plain, separators=(",", ":"), sort_keys=True)

    @staticmethod
    def runs_from_json(text: str) -> list[RunSpec]:
        return [
            RunSpec.from_dict({**cell, "seed": seed}) for cell in json.loads(text) for seed in cell["seed"]
        ]


@dataclass(frozen=True)
class Study:
    """The whole comparison that one configuration describes."""

    name: str
    title: str
    question: str
    sources: dict[str, Source]
    datasets: dict[str, Dataset]
    splits: tuple[str, ...]
    backbones: dict[str, Backbone]
    methods: dict[str, MethodSpec]
    seeds: tuple[int, ...]
    replicates: str | None = None
    reference: str | None = None
    data_seed: int = 0
    validation: float = 0.1
    training: Training = field(default_factory=Training)
    search: Search = field(default_factory=Search)
    methods_per_job: int = 4

    def cells(self) -> Iterator[tuple[Dataset, str, Backbone, list[MethodSpec]]]:
        """Yield dataset, split, backbone and the methods that are run there, in the config's order."""
        for dataset in self.datasets.values():
            for split in self.splits:
                for backbone in self.backbones.values():
                    if backbone.splits and split not in backbone.splits:
                        continue
                    chosen = [m for m in self.methods.values() if not backbone.methods or m.name in backbone.methods]
                    yield dataset, split, backbone, chosen

    def packs(self) -> list[Pack]:
        """Return the jobs of the study: every run in exactly one pack."""
        packs = []
        for dataset, split, backbone, methods in self.cells():
            for number, start in enumerate(range(0, len(methods), self.methods_per_job), 1):
                runs = tuple(
                    self.run(dataset, split, backbone, method, seed)
                    for method in methods[start : start + self.methods_per_job]
                    for seed in self.seeds
                )
                packs.append(Pack(dataset.name, split, backbone.name, number, runs))
        return packs

    def runs(self) -> list[RunSpec]:
        """Return every run that the study asks for."""
        return [run for pack in self.packs() for run in pack.runs]

    def run(self, dataset: Dataset, split: str, backbone: Backbone, method: MethodSpec, seed: int) -> RunSpec:
        rate = method.learning_rate or self.training.learning_rate
        return RunSpec(
            dataset.name, split, backbone.name, method.name, seed, dataset.task, method.method,
            method.options, replace(self.training, learning_rate=rate), self.search,
        )  # fmt: skip


def freeze(value: Any) -> Any:
    """Return a JSON value with its lists as tuples and its objects as tuples of sorted pairs."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, freeze(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def from_config(config: Mapping[str, Any]) -> Study:
    """Return the study that a checked configuration describes (see checking.check)."""
    plain = {
        key: freeze(config[key]) for key in config if key in {f.name for f in fields(Study)} and not isinstance(config[key], Mapping)
    }  # fmt: skip
    return Study(
        name=config["study"],
        sources={name: _source(name, block) for name, block in config["sources"].items()},
        datasets={name: _dataset(name, block) for name, block in config["datasets"].items()},
        backbones={name: _backbone(name, block) for name, block in config["backbones"].items()},
        methods={name: _method(name, block or {}) for name, block in config["methods"].items()},
        training=Training(**{key: freeze(value) for key, value in config.get("training", {}).items()}),
        search=Search(**config.get("search", {})),
        **config.get("workflow", {}),
        **plain,
    )


def _source(name: str, block: Mapping[str, Any]) -> Source:
    return Source(name, block["kind"], freeze({key: block[key] for key in block if key != "kind"}))


def _dataset(name: str, block: Mapping[str, Any]) -> Dataset:
    text = [block["text"]] if isinstance(block["text"], str) else block["text"]
    labels = [str(label) for label in block.get("labels", ())]
    return Dataset(name, **{key: freeze(value) for key, value in (dict(block) | {"text": text, "labels": labels}).items()})


def _backbone(name: str, block: Mapping[str, Any]) -> Backbone:
    block = {key: freeze(value) if key != "pretrain" else value for key, value in block.items()}
    if "pretrain" in block:
        block["pretrain"] = Pretraining(**{key: freeze(value) for key, value in block["pretrain"].items()})
    return Backbone(name, **block)


def _method(name: str, block: Mapping[str, Any]) -> MethodSpec:
    options = {key: value for key, value in block.items() if key not in ("method", "learning_rate")}
    return MethodSpec(name, block.get("method", name), freeze(options), freeze(block.get("learning_rate")))
