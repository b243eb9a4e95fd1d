"""The runs that a run starts from: what they are known by, what became of them, and the weights that they left.

Of a run that others start from the weights are kept in its state folder; the workflow trains it before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file

from peftstudy import backbones, files, methods, registry, tasks
from peftstudy.errors import StudyError
from peftstudy.records import Place
from peftstudy.specs import RunSpec

if TYPE_CHECKING:
    from peftstudy.building import Inputs


def checksums(spec: RunSpec, inputs: Inputs) -> dict[str, str]:
    """Return what the runs that a run starts from are known by: their keys, and the SHA-256 of their weights."""
    found = {}
    for origin in spec.origins:
        record = _record(origin, inputs)
        found[f"runs/{origin.path}"] = record["key"]
        if "weights_sha256" in record:
            found[f"weights/{origin.path}"] = record["weights_sha256"]
    return found


def fault(spec: RunSpec, inputs: Inputs) -> str | None:
    """Return why a run cannot be: one that it, or a trial of its cell, starts from came to nothing, or its backbone.

    What a backbone from the hub is, is known when it is there; its neighbours in the pack go on.
    """
    for origin in spec.reads:
        record = _record(origin, inputs)
        if record["status"] != "finished":
            return f"it starts from {origin.path}, which {record['status']}: {record['reason']}"
    shape = backbones.shape_for(inputs.backbone, tasks.create(spec.task))
    reason = methods.create(spec.adaptation, dict(spec.options)).skip(shape)
    return reason and f"impossible on this backbone: {reason}"


def method_of(spec: RunSpec, inputs: Inputs) -> methods.Method:
    """Return the method of a run, with what the runs that it starts from have trained.

    Raises StudyError where their weights are gone, or are not those of their records.
    """
    options = dict(spec.options)
    if spec.code and registry.code_of(spec.adaptation, options) != spec.code:
        raise StudyError(f"{spec.adaptation}: not as it was when {spec.path} was planned; start the study again.")
    method = methods.create(spec.adaptation, options)
    if len(spec.origins) < method.least_origins:
        raise StudyError(
            f"{spec.path}: {method.name} starts from {method.least_origins} other runs or more, and the specification "
            f"names {len(spec.origins)}."
        )
    if not spec.origins:
        return method
    return method.given(
        methods.Origin(origin.dataset, method_of(origin, inputs), _weights(origin, inputs)) for origin in spec.origins
    )


def _record(origin: RunSpec, inputs: Inputs) -> Mapping[str, Any]:
    record = Place(inputs.state / origin.path).trained(origin, inputs.output / origin.path)
    if record["asked"] != origin.as_dict():
        raise StudyError(f"{inputs.output / origin.path / 'record.json'}: of another request; run the study first.")
    return record


def _weights(origin: RunSpec, inputs: Inputs) -> Mapping[str, Any]:
    path, record = Place(inputs.state / origin.path).weights, _record(origin, inputs)
    if not path.exists() or files.sha256(path) != record.get("weights_sha256"):
        said = "damaged (its checksum differs)" if path.exists() else "the trained weights are gone"
        raise StudyError(
            f"{path}: {said}, and other runs start from them; delete {inputs.output / origin.path / 'record.json'} "
            f"and {path.parent} to train this run again."
        )
    return load_file(path)
