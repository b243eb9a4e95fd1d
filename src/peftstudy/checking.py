"""A configuration is checked before any job starts: the schema, then what a schema cannot say."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from peftstudy import methods, schema, starting, tasks
from peftstudy.backbones import impossible
from peftstudy.configuration import from_config
from peftstudy.errors import StudyError, refuse_unknown
from peftstudy.evidence import claims
from peftstudy.families import FAMILIES, OBJECTIVES
from peftstudy.labels import refuse_classes
from peftstudy.provenance import ROOT
from peftstudy.shapes import Shape, planned_shape
from peftstudy.specs import DEFINITIONS, KINDS, Backbone, Dataset, MethodSpec, Pretraining, Training, several
from peftstudy.study import Study

RESERVED = ("archive", "benchmarks", "rebuilt")

OF_ALL_METHODS = {field.name for field in fields(Training)} - {"learning_rate"}


def check(config: Mapping[str, Any], where: str) -> Study:
    """Return the study that a configuration describes, or raise a StudyError for the first thing that is wrong.

    where: opens each sentence; the file's name.
    """
    config = dict(config)
    if isinstance(config.get("methods"), Mapping):
        # A method without options is written without a block.
        config["methods"] = {name: {} if block is None else block for name, block in config["methods"].items()}
    if "folder" in config and config["folder"] is None:
        raise StudyError(
            f"{where}: folder: found nothing; say where the study's files are "
            "(make report FOLDER=..., or snakemake --config folder=...)."
        )
    schema.refuse(config, where)
    if config["study"] in RESERVED:
        raise StudyError(
            f"{where}: study: found {config['study']!r}, a folder of its own in results/; want another name."
        )
    for name, block in config["backbones"].items():
        _check_origin(f"{where}: backbones.{name}", block)
    _check_ranges(config, where)
    study = from_config(config)
    if (seed := schema.repeated(study.seeds)) is not None:
        raise StudyError(
            f"{where}: seeds: {seed} is listed twice; a block with equal initialization and order is the same as that "
            "plain seed."
        )
    _check_sources(config, where)
    for dataset in study.datasets.values():
        _check_dataset(f"{where}: datasets.{dataset.name}", dataset, study)
    _check_splits(study, where)
    for backbone in study.backbones.values():
        _check_backbone(f"{where}: backbones.{backbone.name}", backbone, study)
    for method in study.methods.values():
        _check_method(f"{where}: methods.{method.name}", method)
    for dataset in study.datasets.values():
        _check_parts(f"{where}: datasets.{dataset.name}", dataset, study)
    starting.check(study, where)
    _check_possible(study, where)
    _check_run_somewhere(study, where)
    if study.reference is not None:
        refuse_unknown(f"{where}: reference", "method", [study.reference], study.methods)
    claims.check(study, where)
    _check_budget(config, study, where)
    refuse_unknown(f"{where}: workflow.keep_weights", "method", study.keep_weights, study.methods)
    if isinstance(study.run_minutes, dict):
        refuse_unknown(f"{where}: workflow.run_minutes", "backbone", study.run_minutes, study.backbones)
    if study.replicates is not None:
        reported = [folder.name for folder in (ROOT / "paper" / "reported").glob("*") if folder.is_dir()]
        refuse_unknown(f"{where}: replicates", "folder under paper/reported", [study.replicates], reported)
    return study


def _check_run_somewhere(study: Study, where: str) -> None:
    """Refuse what would stand in the report without a run: blocks may narrow each other down to nothing."""
    cells = list(study.cells())
    ran = {
        "datasets": {dataset.name for dataset, _, _, methods in cells if methods},
        "backbones": {backbone.name for _, _, backbone, methods in cells if methods},
        "methods": {method.name for *_, methods in cells for method in methods},
    }
    for kind, names in ran.items():
        for name in getattr(study, kind):
            if name not in names:
                raise StudyError(
                    f"{where}: {kind}.{name}: is run nowhere, for what datasets and backbones name for themselves "
                    "(methods, splits, datasets) leaves nothing of it; widen one of them, or leave it out."
                )


def _check_ranges(config: Mapping[str, Any], where: str) -> None:
    blocks = {"training": config.get("training", {})}
    blocks |= {f"methods.{name}": block for name, block in config["methods"].items()}
    asked = {key: block.get("learning_rate") for key, block in blocks.items()}
    sampler = config.get("search", {}).get("sampler")
    if sampler and not any(isinstance(rates, Mapping) for rates in asked.values()):
        raise StudyError(
            f"{where}: search.sampler: found {sampler}, and no learning_rate is a range for it; "
            "want {low: …, high: …, trials: …}, or no sampler."
        )
    for key, rates in asked.items():
        if not isinstance(rates, Mapping):
            continue
        if rates["low"] * 1.1 > rates["high"]:
            raise StudyError(
                f"{where}: {key}.learning_rate: found low {rates['low']:g} and high {rates['high']:g}; "
                "want a range, high well above low."
            )
        there = _three_digits(rates["high"]) - _three_digits(rates["low"]) + 1
        if not sampler and rates["trials"] > there:
            raise StudyError(
                f"{where}: {key}.learning_rate: found {rates['trials']} trials, and between {rates['low']:g} and "
                f"{rates['high']:g} there are {there} rates of three digits; want fewer trials, or a wider range."
            )


def _three_digits(rate: float) -> int:
    """Return the place of a rate among all numbers of three digits."""
    digits, exponent = f"{rate:.2e}".split("e")
    return 900 * int(exponent) + round(100 * float(digits))


def _check_sources(config: Mapping[str, Any], where: str) -> None:
    for name, block in config["sources"].items():
        if block["kind"] == "files":
            _one_of(f"{where}: sources.{name}", block, ("files", "classes"))


def _one_of(at: str, block: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    there = [key for key in keys if key in block]
    if len(there) != 1:
        raise StudyError(f"{at}: found {' and '.join(there) or 'none'} of {', '.join(keys)}; want exactly one.")


def _check_dataset(at: str, dataset: Dataset, study: Study) -> None:
    refuse_unknown(f"{at}.source", "source", [dataset.source], study.sources)
    task = tasks.create(dataset.task, f"{at}.task")
    if len(dataset.text) not in task.texts:
        wanted = " or ".join(map(str, task.texts))
        raise StudyError(f"{at}.text: found {len(dataset.text)} columns; {dataset.task} wants {wanted}.")
    for key in ("balanced", "beams", "blank", "choices", "gathered", "labels", "names", "target_length"):
        if getattr(dataset, key) != getattr(Dataset, key) and key not in task.keys:
            raise StudyError(f"{at}.{key}: means nothing to {dataset.task}; leave it out.")
    if "choices" in task.keys and not dataset.choices:
        raise StudyError(f"{at}: the key 'choices' is missing: {dataset.task} chooses among them.")
    if view := dict(study.sources[dataset.source].options).get("view"):
        _check_view(f"{at}.group", dataset, view)
    if dataset.gathered and dataset.group:
        raise StudyError(f"{at}.group: gathered texts are their own groups; leave one of the two out.")
    if dataset.metric is not None:
        _check_metric(f"{at}.metric", dataset.metric, task)
    refuse_unknown(f"{at}.methods", "method", dataset.methods, study.methods)
    refuse_unknown(f"{at}.splits", "split", dataset.splits, study.splits)
    if dataset.test_from is not None:
        _check_borrowing(f"{at}.test_from", dataset, study)
    if (column := schema.repeated(dataset.text)) is not None:
        raise StudyError(f"{at}.text: {column!r} is listed twice.")
    if dataset.label in dataset.text:
        raise StudyError(f"{at}.label: {dataset.label!r} is a column of the text, too; the text would give it away.")
    if (label := schema.repeated(dataset.labels)) is not None:
        raise StudyError(f"{at}.labels: {label!r} is listed twice.")
    if dataset.labels or dataset.names:
        refuse_classes(at, dataset, dataset.labels or dataset.names)


def _check_parts(at: str, dataset: Dataset, study: Study) -> None:
    """Refuse official parts that the source does not name; what the docstrings have is not told here."""
    options = dict(study.sources[dataset.source].options)
    present = [part for part, _ in options.get("files") or options.get("classes") or ()]
    if not present:
        return
    refuse_unknown(f"{at}.parts", "part", dataset.parts, present)
    official = next((split for split in study.splits_on(dataset.name) if split.startswith("official")), None)
    for part in ("train", *(() if dataset.test_from else ("test",))) if official else ():
        if part not in (dataset.parts or present):
            raise StudyError(
                f"{at}: the split {official} needs a part {part!r}; found {', '.join(dataset.parts or present)}. Name "
                f"its files in sources.{dataset.source}, or give the dataset other splits."
            )


def _check_view(at: str, dataset: Dataset, view: str) -> None:
    from peftstudy.docstring_views import COLUMNS  # with pandas

    if DEFINITIONS in COLUMNS[view] and dataset.group != DEFINITIONS:
        raise StudyError(
            f"{at}: found {dataset.group or 'none'}, and some examples of the view {view} give the answers to others "
            f"away; want group: {DEFINITIONS}."
        )


def _check_metric(at: str, metric: str, task: tasks.Task) -> None:
    known = [name for name in task.metrics if name not in task.beside]
    if metric in task.beside:
        raise StudyError(
            f"{at}: {metric} cannot be the main one, by which runs are chosen: {task.beside[metric]}; "
            f"want one of {', '.join(known)}."
        )
    refuse_unknown(at, "metric", [metric], known)


def _check_borrowing(at: str, dataset: Dataset, study: Study) -> None:
    refuse_unknown(at, "dataset", [dataset.test_from], [name for name in study.datasets if name != dataset.name])
    other = study.datasets[dataset.test_from]
    if other.test_from is not None:
        raise StudyError(f"{at}: {other.name!r} is tested on {other.test_from!r} itself; name that.")
    for key, own, others in (
        ("task", dataset.task, other.task),
        ("text", len(dataset.text), len(other.text)),
        ("blank", dataset.blank, other.blank),
        ("gathered", dataset.gathered, other.gathered),
    ):
        if own != others:
            raise StudyError(f"{at}: {key}: {dataset.name} and {other.name} have not the same there.")


def _check_splits(study: Study, where: str) -> None:
    for split in study.splits:
        first, _, second = split.partition("-")
        if first == "size" and int(second) == 0:
            raise StudyError(f"{where}: splits: {split!r} has no examples.")
        if first.isdigit() and int(first) + int(second) != 100:
            raise StudyError(f"{where}: splits: {split!r} adds up to {int(first) + int(second)}, want 100.")


def _check_origin(at: str, block: Mapping[str, Any]) -> None:
    _one_of(at, block, KINDS)
    if "hub" in block and "revision" not in block:
        raise StudyError(
            f"{at}: the key 'revision' is missing: a backbone from the hub is pinned by its full commit hash."
        )
    if "revision" in block and "hub" not in block:
        raise StudyError(f"{at}.revision: only a backbone from the hub has one.")
    if "end" in block and not block.keys() & {"hub", "folder"}:
        raise StudyError(f"{at}.end: only a backbone from the hub or a folder has one.")
    if "tokenizer" in block.get("pretrain", {}):
        _one_of(f"{at}.pretrain.tokenizer", block["pretrain"]["tokenizer"], ("vocabulary", "folder"))


def _check_backbone(at: str, backbone: Backbone, study: Study) -> None:
    refuse_unknown(f"{at}.methods", "method", backbone.methods, study.methods)
    refuse_unknown(f"{at}.splits", "split", backbone.splits, study.splits)
    refuse_unknown(f"{at}.datasets", "dataset", backbone.datasets, study.datasets)
    if backbone.random is not None:
        refuse_unknown(f"{at}.random", "backbone", [backbone.random], study.backbones)
        if study.backbones[backbone.random].kind == "random":
            raise StudyError(f"{at}.random: {backbone.random!r} is random itself; name a backbone with weights.")
    if backbone.pretrain is not None:
        _check_pretraining(f"{at}.pretrain", backbone.pretrain, study)


def _check_pretraining(at: str, pretrain: Pretraining, study: Study) -> None:
    refuse_unknown(f"{at}.corpus", "source", dict(pretrain.corpus), study.sources)
    for name, colon, column in (excluded.partition(":") for excluded in pretrain.exclude or ()):
        if colon and not column:
            raise StudyError(f"{at}.exclude: {name + colon!r} names no column; write {name}:COLUMN.")
        kind, known = ("source", study.sources) if colon else ("dataset", study.datasets)
        refuse_unknown(f"{at}.exclude", kind, [name], known)
    hidden, heads = pretrain.size("hidden_size"), pretrain.size("num_attention_heads")
    if hidden % heads:
        raise StudyError(f"{at}.shape: hidden_size {hidden} is not a multiple of num_attention_heads {heads}.")
    family = FAMILIES[pretrain.family]
    for name in sorted(set().union(*OBJECTIVES.values()) - set(OBJECTIVES[family.objective])):
        if getattr(pretrain, name) != getattr(Pretraining, name):
            raise StudyError(f"{at}.{name}: {pretrain.family} is pre-trained by {family.objective}, which has none.")
    room = pretrain.size("max_position_embeddings") - family.position_offset
    if pretrain.block_length > room:
        raise StudyError(f"{at}.block_length: found {pretrain.block_length}, and the shape has room for {room} tokens.")


def _check_method(at: str, method: MethodSpec) -> None:
    known = methods.registered().get(method.method)
    for key, _ in method.options:
        if known and key in OF_ALL_METHODS and key not in known.options():
            raise StudyError(f"{at}: {key} is the same for all methods; say it under training.")
    try:
        made = methods.create(method.method, method.options, at, ("learning_rate", "method"))
    except StudyError as error:
        if method.name != method.method or method.name in {**methods.registered(), **methods.LEFT_OUT}:
            raise
        raise StudyError(f"{error} A name of your own wants the method beside it (method: lora).") from None
    _check_citation(at, made)


def _check_citation(at: str, method: methods.Method) -> None:
    """Refuse what the report could not print, of methods in files and packages of others; those here have entries."""
    if method.citation and not type(method).__module__.startswith(f"{methods.__name__}."):
        bibliography = ROOT / "paper" / "references.bib"
        if f"{{{method.citation}," not in bibliography.read_text(encoding="utf-8"):
            raise StudyError(
                f"{at}: citation {method.citation!r} is no key of paper/references.bib; add its entry there, or leave "
                "the citation empty."
            )


def _check_possible(study: Study, where: str) -> None:
    """Refuse methods that cannot do a task, or adapt a backbone whose shape is known before it is made."""
    for dataset, _, backbone, chosen in study.cells():
        for method in chosen:
            if reason := methods.create(method.method, method.options).cannot(dataset.task):
                raise StudyError(
                    f"{where}: methods.{method.name}: {method.method} cannot do {dataset.task} "
                    f"(datasets.{dataset.name}): {reason}."
                )
            if backbone.devices > 1 and methods.create(method.method, method.options).reads_whole:
                raise StudyError(
                    f"{where}: backbones.{backbone.name}.devices: found {backbone.devices}, and {method.name} reads "
                    "whole weights or gradients, of which each device has a share; want 1, or the other methods alone "
                    f"under backbones.{backbone.name}.methods."
                )
    planned = {name: base.pretrain for name, base in study.backbones.items() if base.pretrain is not None}
    refuse_impossible(study, {name: _planned(pretrain) for name, pretrain in planned.items()}, where)


def _planned(pretrain: Pretraining) -> Shape:
    return planned_shape(pretrain.family, dict(pretrain.shape), pretrain.vocabulary)


def refuse_impossible(study: Study, shapes: Mapping[str, Shape], where: str) -> None:
    """Refuse tasks and methods that backbones of known shapes, by their names, cannot have."""
    for dataset, _, backbone, chosen in study.cells():
        shape = shapes.get(backbone.random or backbone.name)
        if shape is None:
            continue
        if reason := impossible(tasks.create(dataset.task), shape):
            raise StudyError(f"{where}: datasets.{dataset.name}: impossible on {backbone.name}: {reason}.")
        for method in chosen:
            if reason := methods.create(method.method, method.options).skip(shape):
                raise StudyError(
                    f"{where}: methods.{method.name}: impossible on {backbone.name}: {reason}. "
                    f"Say under backbones.{backbone.name}.methods which it is run with."
                )


def _check_budget(config: Mapping[str, Any], study: Study, where: str) -> None:
    asked = config.get("training", {})
    own = {f"datasets.{name}.training": block.get("training", {}) for name, block in config["datasets"].items()}
    for key, budget in ({"training": asked} | own).items():
        given = [name for name in ("epochs", "steps", "seconds") if name in budget]
        if len(given) > 1:
            raise StudyError(f"{where}: {key}: found {' and '.join(given)}; want one of them.")
    if "seconds" in asked and "minimum_steps" in asked:
        raise StudyError(f"{where}: training.minimum_steps: a budget in seconds has no floor of steps; leave it out.")
    if study.validation > 0:
        return
    if study.training.select == "best":
        said = "'best'" if "select" in asked else "'best' when left out"
        raise StudyError(
            f"{where}: validation: found 0, and training.select is {said}: without a validation part the epoch can "
            "only be the last (training.select: last)."
        )
    rates = {"training": study.training.learning_rate}
    rates |= {f"methods.{name}": method.learning_rate for name, method in study.methods.items()}
    for key, rate in rates.items():
        if several(rate):
            raise StudyError(f"{where}: {key}.learning_rate: found a list to search, and validation is 0; give one.")
