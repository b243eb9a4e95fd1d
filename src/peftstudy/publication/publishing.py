"""runs -> a folder: one trained model, with all that a stranger needs to load it and to judge its score."""

import logging
import math
import shutil
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow import parquet

from peftstudy import backbones, files, origins, scoring, seeds, splits, tasks, tokens, writing
from peftstudy.building import Inputs
from peftstudy.engine import Engine
from peftstudy.errors import StudyError
from peftstudy.publication import cards, formats, weights
from peftstudy.publication.formats import Format
from peftstudy.publication.trained import BACKBONE, Trained
from peftstudy.records import read_whole
from peftstudy.specs import RunSpec
from peftstudy.study import Study

log = logging.getLogger(__name__)

ALIKE = 0.999
"""The share of test examples that a loaded model must answer as its record says. A tie may fall otherwise where sums
are rounded otherwise: a loaded model reads padded batches."""


def publish(study: Study, results: Path, name: str, output: Path, device: torch.device) -> str:
    """Write a run's folder, whole or not at all; return what it holds, in a line.

    name: the run's path, as records and `peftstudy why` have it. results: the study's folder, with runs, tokens,
    splits and backbones. Raises StudyError for a run that is unknown, missing or did not finish, for what is gone
    that it was made from, and where the model, loaded as the card says, answers otherwise than the record.
    """
    files.refuse_existing(output)
    spec = find(study, name.rstrip("/").removeprefix(f"{results}/runs/"))
    place = results / "runs" / spec.path
    record = finished(place)
    inputs = _inputs(results, spec, device)
    tensors, said = weights.of(spec, record, inputs, _split(results, spec))
    trained = _trained(study, spec, inputs, tensors)
    form = formats.of(trained)
    with files.whole_folder(output) as folder:
        form.write(trained, folder)
        _add_backbone(form, trained, folder)
        alike = compare(form, trained, folder, spec, inputs, _split(results, spec) / "test.npy", place)
        files.write_json(folder / "run.json", {**record, "test": read_whole(place, "test.json")})
        checked = f"{said}; loaded as above, the model answers {alike[0]:,} of {alike[1]:,} test examples as then"
        card = cards.card(study, results, spec, record, trained, form, checked)
        files.write_text(folder / "README.md", str(card))
    return f"{output}, for {form.library}; weights {checked}"


def find(study: Study, name: str) -> RunSpec:
    """Return the run of that name; of an unknown one, the nearest names are told."""
    known = {spec.path: spec for spec in study.runs()}
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=3, cutoff=0.3) or list(known)[:3]
    raise StudyError(f"unknown run {name!r}: {study.name} has {len(known)}; near it are {', '.join(near)}.")


def finished(place: Path) -> dict[str, Any]:
    """Return the record of a run that finished and was scored."""
    for name in ("record.json", "test.json"):
        if not (place / name).exists():
            raise StudyError(f"{place / name}: no such file: the run is not done; run the study first.")
    record = read_whole(place, "record.json")
    if record["status"] != "finished":
        raise StudyError(f"{place}: the run {record['status']} ({record['reason']}); there is no model to publish.")
    return record


def _split(results: Path, spec: RunSpec) -> Path:
    return results / "splits" / spec.dataset / spec.split


def _inputs(results: Path, spec: RunSpec, device: torch.device) -> Inputs:
    found = Inputs(
        results / "tokens" / spec.dataset / spec.backbone, results / "backbones" / spec.backbone,
        results / "state" / "runs", results / "runs", device,
    )  # fmt: skip
    for path in (found.tokens / "input_ids.npy", found.backbone / "config.json", _split(results, spec) / "test.npy"):
        if not path.exists():
            raise StudyError(
                f"{path}: no such file, and the model is made from it; publish where the study was run, "
                "or run it again (an archive holds neither weights nor data)."
            )
    found.check_backbone()
    return found


def _trained(study: Study, spec: RunSpec, inputs: Inputs, tensors: dict[str, torch.Tensor]) -> Trained:
    task, backbone = tasks.create(spec.task), study.backbones[spec.backbone]
    labels = files.read_json(inputs.tokens / "tokens.json")["labels"]
    return Trained(
        origins.method_of(spec, inputs), task, inputs.backbone,
        backbones.shape_for(inputs.backbone, task), seeds.initialization(spec.seed), tuple(labels),
        tensors, backbone.hub, backbone.revision,
    )  # fmt: skip


def _add_backbone(form: Format, trained: Trained, folder: Path) -> None:
    """Copy what the hub does not hold: the backbone, or of a model that is whole its tokenizer."""
    copied = [path for path in trained.backbone.iterdir() if path.is_file() and path.name != "manifest.json"]
    if not form.needs_backbone:
        for path in copied:
            if path.name in backbones.TOKENIZER_FILES:
                shutil.copyfile(path, folder / path.name)
    elif not trained.repository:
        (folder / BACKBONE).mkdir()
        for path in copied:
            shutil.copyfile(path, folder / BACKBONE / path.name)


def compare(
    form: Format, trained: Trained, folder: Path, spec: RunSpec, inputs: Inputs, test: Path, place: Path
) -> tuple[int, int]:
    """Return how many test examples the model in a folder answers as the run did, of how many."""
    data, index, method = tokens.load(inputs.tokens), splits.load_part(test), trained.method
    model = formats.run(form.lines(trained), folder)
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    writing.library_model(model).config.name_or_path = str(inputs.backbone)  # where tasks look for the tokenizer
    engine = Engine(
        model.to(inputs.device), "plain", seeds.order(spec.seed), method.extra_tokens, method.plain_attention,
        reads_first=trained.task.reads_first,
    )  # fmt: skip
    found = scoring.evaluate(engine, trained.task, data, index, spec.training.precision).answers["predicted"]
    stored = parquet.read_table(place / "predictions.parquet")["predicted"]
    same = agreeing(found.to_pylist(), stored.to_pylist())
    if same < ALIKE * len(index):
        raise StudyError(
            f"{place}: the model answers {len(index) - same} of {len(index)} test examples otherwise than its record: "
            "trained again, it is another one, as it may be with other packages or on another machine than in "
            f"{place / 'record.json'}; publish there, or let the study keep weights (workflow.keep_weights)."
        )
    return same, len(index)


def agreeing(a: Iterable[Any], b: Iterable[Any]) -> int:
    """Return how many answers are the same, numbers up to rounding.

    >>> agreeing([1, "a", 0.5], [1, "b", 0.50001])
    2
    """
    pairs = zip(a, b, strict=True)
    return sum(
        math.isclose(x, y, rel_tol=1e-3, abs_tol=1e-4) if isinstance(x, float) else bool(np.all(x == y))
        for x, y in pairs
    )
