"""runs: score what was trained on the test part, once, and keep the predictions."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from safetensors.torch import load_file

from peftstudy import files, methods, mishaps, scoring, seeds, splits, tokens, training
from peftstudy.building import Inputs, build
from peftstudy.engine import Engine
from peftstudy.errors import StudyError
from peftstudy.records import EVALUATED, Place, evaluation_key, finite
from peftstudy.specs import RunSpec

log = logging.getLogger(__name__)

NO_ANSWERS = pa.table({})
"""Of a run that did not finish."""


def evaluate_pack(
    runs: Sequence[RunSpec], inputs: Inputs, test: Path, kept: Collection[str] = ()
) -> list[Mapping[str, Any]]:
    """Score the chosen weights of each trained run on the test part, once; keep the predictions.

    kept: the methods whose runs keep their weights, too. Raises StudyError in the end where a run could not be scored;
    the others are.
    """
    index, digest = splits.load_part(test), files.sha256(test)
    data = tokens.load(inputs.tokens)
    inputs.check_backbone()
    results, missed = [], []
    for spec in runs:
        try:
            results.append(_scored(spec, inputs, data, index, digest, spec.method in kept))
        except mishaps.ENDS:
            raise
        except mishaps.FAILURES as error:
            missed.append(f"{spec.path}: {mishaps.reason(error)}")
            log.error("%s", missed[-1])
    if missed:
        raise StudyError(f"{len(missed)} of {len(runs)} runs could not be scored on test: {missed[0]}")
    return results


def _scored(
    spec: RunSpec, inputs: Inputs, data: tokens.Tokens, index: np.ndarray, digest: str, is_kept: bool
) -> Mapping[str, Any]:
    """Return what a run scores, and publish it. digest: of the test part. is_kept: whether its weights are."""
    place = Place(inputs.state / spec.path)
    record = place.trained(spec, inputs.output / spec.path)
    key = evaluation_key(record, digest)
    with place.lock():
        result = place.holds("test.json", key)
        if result is None:
            result = {"key": key, "record": record["key"]}
            if record["status"] == "finished":
                result |= _evaluate(spec, inputs, data, index, place, record)
            else:
                write_predictions(place.folder / "predictions.parquet", index[:0], NO_ANSWERS)
            result = place.seal("test.json", result, "predictions.parquet")
        place.publish(EVALUATED, inputs.output / spec.path)
        place.forget_weights(but_chosen=is_kept)
    return result


def _evaluate(spec: RunSpec, inputs: Inputs, data: tokens.Tokens, index: np.ndarray, place: Place, record: Any) -> dict:
    if not place.weights.exists():
        raise StudyError(
            f"{place.weights}: the trained weights are gone, and the test part is not the one they were scored on; "
            f"delete {inputs.output / spec.path / 'record.json'} and {place.folder} to train this run again."
        )
    if record.get("weights_sha256") not in (None, files.sha256(place.weights)):
        raise StudyError(f"{place.weights}: damaged (its checksum differs); delete {place.folder} to train it again.")
    measured = record["measured"]
    trained = replace(spec, training=replace(spec.training, learning_rate=measured["learning_rate"]))
    adapted, method, task = build(trained, inputs, data)
    engine = training.engine_of(adapted.model, method, task, spec.training, seeds.order(spec.seed))
    begin = time.perf_counter()
    scored = _score(engine, task, data, index, place.weights, spec)
    seconds = time.perf_counter() - begin
    write_predictions(place.folder / "predictions.parquet", index, scored.answers)
    predicted, targets = (scored.answers[name].to_pylist() for name in ("predicted", "label"))
    epochs = range(1, measured["epochs"] + 1) if spec.training.test_curve else ()
    curve = {measured["chosen_epoch"]: scored.scores[task.metric]}  # its weights are those that were scored above
    for epoch in epochs:
        if epoch not in curve:
            curve[epoch] = _score(engine, task, data, index, place.epoch_weights(epoch), spec).scores[task.metric]
    return {
        "metric": task.metric,
        "scores": {name: finite(value) for name, value in scored.scores.items()},
        "loss": finite(scored.loss),
        "is_collapsed": task.collapsed(predicted, targets),
        "curve": [curve[epoch] for epoch in epochs],
        "test_examples": len(index),
        "test_seconds": seconds,
        **({"signatures": signatures} if (signatures := task.signatures(targets)) else {}),
    }


def _score(
    engine: Engine, task: Any, data: tokens.Tokens, index: np.ndarray, weights: Path, spec: RunSpec
) -> scoring.Scored:
    methods.load_trained(engine.model, load_file(weights))
    return scoring.evaluate(engine, task, data, index, spec.training.precision)


def write_predictions(path: Path, index: np.ndarray, answers: pa.Table) -> None:
    """Write example number, label, prediction and what else the task keeps of the test part, a row an example."""
    table = answers.add_column(0, "example", pa.array(index, pa.int32()))
    with files.whole(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd")
