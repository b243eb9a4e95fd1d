"""From a checked configuration to a Study: the blocks become frozen values, defaults come from their classes."""

import math
import os
import random
from collections.abc import Mapping
from typing import Any

from peftstudy import seeds
from peftstudy.registry import code_of
from peftstudy.specs import Backbone, Claim, Dataset, MethodSpec, Pretraining, Range, Search, Source, Training, freeze
from peftstudy.study import Study

PLAIN = ("title", "question", "splits", "replicates", "reference", "strict", "data_seed", "validation")


def from_config(config: Mapping[str, Any]) -> Study:
    """Return the study that a checked configuration describes (see checking.check)."""
    search = Search(**config.get("search", {}))
    plain = {key: freeze(config[key]) for key in PLAIN if key in config}
    return Study(
        name=config["study"],
        sources={name: _source(name, block, config.get("folder") or "") for name, block in config["sources"].items()},
        datasets={name: _dataset(name, block) for name, block in config["datasets"].items()},
        backbones={name: _backbone(name, block) for name, block in config["backbones"].items()},
        methods={name: _method(name, block or {}, search) for name, block in config["methods"].items()},
        claims=tuple(claim_from_config(block) for block in config.get("claims", ())),
        training=_training(config.get("training", {}), search),
        seeds=seeds.of(config["seeds"]),
        search=search,
        **{
            key: value if isinstance(value, dict) else freeze(value)
            for key, value in config.get("workflow", {}).items()
        },
        **plain,
    )


def claim_from_config(block: Mapping[str, Any]) -> Claim:
    """Return a claim; what it means may be one statement or a list of them."""
    means = [block["means"]] if isinstance(block["means"], str) else block["means"]
    return Claim(**{key: freeze(value) for key, value in (dict(block) | {"means": means}).items()})


def _source(name: str, block: Mapping[str, Any], folder: str) -> Source:
    if "path" in block and not block["path"].startswith(("~", "$")):
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


def _training(block: Mapping[str, Any], search: Search) -> Training:
    values = {key: freeze(value) for key, value in block.items() if key != "learning_rate"}
    if "learning_rate" in block:
        values["learning_rate"] = _rates(block["learning_rate"], search)
    return Training(**values)


def _method(name: str, block: Mapping[str, Any], search: Search) -> MethodSpec:
    options = _options(block)
    method = block.get("method", name)
    return MethodSpec(
        name, method, freeze(options), _rates(block.get("learning_rate"), search),
        block.get("of"), freeze(block.get("trained_on", ())), block.get("code") or code_of(method, options),
    )  # fmt: skip


def _options(block: Mapping[str, Any]) -> dict[str, Any]:
    return {key: block[key] for key in block if key not in ("method", "learning_rate", "of", "trained_on", "code")}


def resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration that also says what methods in files of your own are known by.

    An archive is read as it was made, though such a file has changed since.
    """
    named = {}
    for name, block in config["methods"].items():
        code = code_of((block or {}).get("method", name), _options(block or {}))
        named[name] = {**(block or {}), "code": code} if code else block
    return {**config, "methods": named}


def _rates(value: Any, search: Search) -> Any:
    """Return one rate or several; of a range, so many that are drawn log-uniformly, with three digits, in order.

    Where a sampler takes them, the range itself is returned.
    """
    if not isinstance(value, Mapping):
        return freeze(value)
    if search.sampler:
        return Range(**value)
    # The same seed for each method: all are searched at the same quantiles of their ranges.
    rng = random.Random(search.seed)
    low, high = math.log(value["low"]), math.log(value["high"])
    drawn: set[float] = set()
    while len(drawn) < value["trials"]:
        drawn.add(float(f"{math.exp(rng.uniform(low, high)):.3g}"))
    return tuple(sorted(drawn))
