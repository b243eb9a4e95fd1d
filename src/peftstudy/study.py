"""The configuration as a typed grid: a Study holds everything, a RunSpec what decides one run."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

PROTOCOL = 1
"""Raised when records made before stop being comparable with those made after."""

Options = tuple[tuple[str, Any], ...]
Spec = TypeVar("Spec", "Source", "Dataset", "Backbone")


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
    balanced: bool = False
    max_length: int = 128

    def without_length(self) -> "Dataset":
        """The dataset as far as it decides which examples there are."""
        return replace(self, max_length=Dataset.max_length)


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
    family: str | None = None
    methods: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Where it comes from: hub, folder, random or pretrain."""
        return next(kind for kind in ("hub", "folder", "random", "pretrain") if getattr(self, kind))

    def without_grid(self) -> "Backbone":
        """The backbone as far as it decides its weights: not which methods and splits it is run with."""
        return replace(self, methods=(), splits=())


@dataclass(frozen=True)
class Source:
    """Files of one kind (docstrings, files, hub), and the kind's options."""

    name: str
    kind: str
    options: Options = ()

    def inputs(self) -> list[str]:
        """Return the local files that the source is read from, as far as they exist; [] for other kinds."""
        if self.kind != "files":
            return []
        options = dict(self.options)
        folder = Path(os.path.expandvars(options["path"])).expanduser()
        names = [name for _, part in options.get("files", ()) for name in ([part] if isinstance(part, str) else part)]
        return [str(folder / name) for name in names if (folder / name).exists()]


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
        """The pack's name within its study."""
        return f"{self.dataset}_{self.split}_{self.backbone}_{self.number}"

    def files(self, folder: str, *names: str) -> list[str]:
        """Return the paths of the files `names` of each run."""
        return [f"{folder}/{run.path}/{name}" for run in self.runs for name in names]

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
        return [RunSpec.from_dict({**cell, "seed": seed}) for cell in json.loads(text) for seed in cell["seed"]]


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
    checkpoint_seconds: float = 30.0

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

    def corpus_tables(self, backbone: str) -> list[str]:
        """Return the tables that a backbone is pre-trained on; none when it is not."""
        pretrain = self.backbones[backbone].pretrain
        return [
            f"results/{self.name}/sources/{source}/table.parquet" for source, _ in (pretrain.corpus if pretrain else ())
        ]

    def exclusions(self, backbone: str) -> list[tuple[str, str, str]]:
        """Return the tables whose texts a backbone's corpus leaves out.

        Each is a path, the column of its texts there, and the column to compare with them where
        the corpus has it (a dataset's examples are cut from longer texts of the same source).
        """
        pretrain, root = self.backbones[backbone].pretrain, f"results/{self.name}"
        found = []
        for name in pretrain.exclude if pretrain else ():
            source, _, column = name.partition(":")
            if column:
                found.append((f"{root}/sources/{source}/table.parquet", column, column))
            else:
                found.append((f"{root}/splits/{name}/examples.parquet", "text", self.datasets[name].text[0]))
        return found

    def base_folder(self, backbone: str) -> list[str]:
        """Return the folder whose shape a random backbone takes; none for the others."""
        base = self.backbones[backbone].random
        return [f"results/{self.name}/backbones/{base}"] if base else []

    def result_files(self) -> list[str]:
        """Return the files that the metrics are made from: those of all runs and of their inputs."""
        root = f"results/{self.name}"
        runs = [path for pack in self.packs() for path in pack.files(f"{root}/runs", "record.json", "test.json")]
        cells = list(self.cells())
        splits = dict.fromkeys(f"{dataset.name}/{split}" for dataset, split, _, _ in cells)
        tokens = dict.fromkeys(f"{dataset.name}/{backbone.name}" for dataset, _, backbone, _ in cells)
        return [
            *runs,
            *(f"{root}/splits/{name}/split.json" for name in splits),
            *(f"{root}/metrics/baselines/{name}.json" for name in splits),
            *(f"{root}/tokens/{name}" for name in tokens),
            *(f"{root}/backbones/{name}" for name in self.backbones),
        ]

    def run(self, dataset: Dataset, split: str, backbone: Backbone, method: MethodSpec, seed: int) -> RunSpec:
        rate = method.learning_rate or self.training.learning_rate
        return RunSpec(
            dataset.name, split, backbone.name, method.name, seed, dataset.task, method.method,
            method.options, replace(self.training, learning_rate=rate), self.search,
        )  # fmt: skip


def to_json(spec: Source | Dataset | Backbone) -> str:
    """Return a specification as JSON for the command line; parse() makes it again."""
    return json.dumps(asdict(spec), separators=(",", ":"), sort_keys=True)


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
