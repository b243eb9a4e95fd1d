"""From a checked configuration to a Study: the blocks become frozen values, defaults come from their classes."""

import os
from collections.abc import Mapping
from typing import Any

from peftstudy.specs import Backbone, Dataset, MethodSpec, Pretraining, Search, Source, Training, freeze
from peftstudy.study import Study

PLAIN = ("title", "question", "splits", "seeds", "replicates", "reference", "data_seed", "validation")


def from_config(config: Mapping[str, Any]) -> Study:
    """Return the study that a checked configuration describes (see checking.check)."""
    plain = {key: freeze(config[key]) for key in PLAIN if key in config}
    return Study(
        name=config["study"],
        sources={name: _source(name, block, config.get("folder") or "") for name, block in config["sources"].items()},
        datasets={name: _dataset(name, block) for name, block in config["datasets"].items()},
        backbones={name: _backbone(name, block) for name, block in config["backbones"].items()},
        methods={name: _method(name, block or {}) for name, block in config["methods"].items()},
        training=Training(**{key: freeze(value) for key, value in config.get("training", {}).items()}),
        search=Search(**config.get("search", {})),
        **config.get("workflow", {}),
        **plain,
    )


def _source(name: str, block: Mapping[str, Any], folder: str) -> Source:
    if "path" in block:
        block = {**block, "path": os.path.join(folder, block["path"])}
    return Source(name, block["kind"], freeze({key: block[key] for key in block if key != "kind"}))


def _dataset(name: str, block: Mapping[str, Any]) -> Dataset:
    text = [block["text"]] if isinstance(block["text"], str) else block["text"]
    choices = block.get("choices", ())
    lists = {
        "text": text,
        "labels": [str(label) for label in block.get("labels", ())],
        "choices": [choices] if isinstance(choices, str) else choices,
    }
    return Dataset(name, **{key: freeze(value) for key, value in (dict(block) | lists).items()})


def _backbone(name: str, block: Mapping[str, Any]) -> Backbone:
    block = {key: freeze(value) if key != "pretrain" else value for key, value in block.items()}
    if "pretrain" in block:
        block["pretrain"] = Pretraining(**{key: freeze(value) for key, value in block["pretrain"].items()})
    return Backbone(name, **block)


def _method(name: str, block: Mapping[str, Any]) -> MethodSpec:
    options = {key: value for key, value in block.items() if key not in ("method", "learning_rate")}
    return MethodSpec(name, block.get("method", name), freeze(options), freeze(block.get("learning_rate")))
