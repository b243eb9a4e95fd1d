"""The card of a published model, in the form of the Hugging Face hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from peftstudy import files, seeds
from peftstudy.ends import end_mark
from peftstudy.evidence.intervals import over_seeds
from peftstudy.publication.formats import Format
from peftstudy.publication.trained import BACKBONE, Trained
from peftstudy.report.views import METRICS
from peftstudy.specs import RunSpec
from peftstudy.study import Study

PIPELINES = {
    "classification": "text-classification", "regression": "text-classification",
    "token-classification": "token-classification", "tagging": "token-classification",
    "extractive-qa": "question-answering", "multiple-choice": "multiple-choice", "generation": "text-generation",
    "label-generation": "text-generation",
}  # fmt: skip
"""Task -> what the hub calls it."""
ORIGINS = {
    "pretrain": "pre-trained by the study itself, on its own text",
    "random": "with random weights",
    "folder": "from a local folder",
}


def card(
    study: Study, results: Path, spec: RunSpec, record: Mapping[str, Any], trained: Trained, form: Format,
    checked: str,
) -> ModelCard:  # fmt: skip
    """Return the card of a run; checked: where its weights are from, and what was found when they were loaded."""
    test = files.read_sealed(results / "runs" / spec.path / "test.json")
    metric, score = test["metric"], test["scores"][test["metric"]]
    name = f"{study.name}: {spec.path}"
    data = ModelCardData(
        model_name=name, library_name=form.library, base_model=trained.repository,
        pipeline_tag=PIPELINES[spec.task], tags=["peftstudy", spec.adaptation],
        eval_results=[EvalResult(**_dataset(study, spec), task_type=PIPELINES[spec.task], dataset_split="test",
                                 metric_type=metric, metric_value=round(score, 4))],
    )  # fmt: skip
    scores = scores_of_cell(study, results, spec)
    sections = [
        f"# {spec.method} on {spec.backbone}, for {spec.dataset}",
        _opening(study, spec, trained, form, metric, score, scores),
        "## How to load it", _loading(study, trained, form, results, spec),
        "## Where it comes from", _origin(study, spec, record, test, checked),
    ]  # fmt: skip
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n")


def scores_of_cell(study: Study, results: Path, spec: RunSpec) -> pd.Series:
    """Return by seed the scores on test of the runs that differ from this one in that alone, its own among them."""
    cell, found = spec.path.rpartition("/")[0], {}
    for run in study.runs():
        path = results / "runs" / run.path / "test.json"
        test = files.read_sealed(path) if run.path.startswith(f"{cell}/") and path.exists() else {}
        if "metric" in test and test["scores"][test["metric"]] is not None:
            found[run.seed] = test["scores"][test["metric"]]
    return pd.Series(found.values(), index=seeds.labels(found))


def _dataset(study: Study, spec: RunSpec) -> dict[str, str]:
    source = study.sources[study.datasets[spec.dataset].source]
    options = dict(source.options)
    found = {"dataset_type": spec.dataset, "dataset_name": f"{spec.dataset}, split {spec.split}"}
    if source.kind == "hub":
        found |= {"dataset_type": options["repository"], "dataset_revision": options["revision"]}
    return found


def _opening(
    study: Study, spec: RunSpec, trained: Trained, form: Format, metric: str, score: float, scores: pd.Series
) -> str:
    options = ", ".join(f"{key} {value}" for key, value in spec.options)
    question = f"> {study.question}" if study.question else ""
    return "\n\n".join(filter(None, [
        f"One run of the study *{study.title}* (`{study.name}`), made and published by peftstudy.",
        question,
        f"On test: **{score:.3f}** ({METRICS.get(metric, metric)}). {_expected(scores)}",
        f"Method: {spec.adaptation}{f' ({options})' if options else ''}, which trains {trained.method.trains}"
        f"{'' if trained.task.writes else ', and a fresh head'}. Form: {form.library}.",
        spec.origins and "It starts from " + ", ".join(f"`{origin.path}`" for origin in spec.origins) + ".",
    ]))  # fmt: skip


def _loading(study: Study, trained: Trained, form: Format, results: Path, spec: RunSpec) -> str:
    from transformers import AutoTokenizer

    about = files.read_json(results / "tokens" / spec.dataset / spec.backbone / "tokens.json")
    if trained.repository and form.needs_backbone:
        place, asked = trained.repository, f', revision="{trained.revision}"'
    else:
        place, asked = (BACKBONE if form.needs_backbone else "."), ""
    pairs = len(study.datasets[spec.dataset].text) == 2 or "choices" in trained.task.keys
    said = [
        "In this folder:",
        "\n".join(["```python", *form.lines(trained), "```"]),
        "Texts as the model saw them:",
        "\n".join([
            "```python", "from transformers import AutoTokenizer", "",
            f'tokenizer = AutoTokenizer.from_pretrained("{place}"{asked})',
            *_reading(AutoTokenizer.from_pretrained(trained.backbone), pairs, trained.task.writes, about["max_length"]),
            "```",
        ]),
    ]  # fmt: skip
    if trained.labels and not trained.task.writes:
        said.append("Classes, by number: " + ", ".join(f"{i} {label}" for i, label in enumerate(trained.labels)) + ".")
    return "\n\n".join(said)


def _expected(scores: pd.Series) -> str:
    """Say what the runs of the cell come to, by seed."""
    if len(scores) == 1:
        return "It is the score of one seed: others may come to more or less, and nothing is known of how much."
    mean, low, high = over_seeds(scores)
    bounds = "" if low is None else f", 95 % interval {low:.3f} to {high:.3f}"
    number, word = seeds.counted(list(map(seeds.parse, scores.index)))
    return (
        f"Over the {number} {word} that finished the mean is {mean:.3f}{bounds}: that, and not the score of one "
        "seed, is what to expect of the method."
    )


def _reading(tokenizer: Any, pairs: bool, writes: bool, length: int) -> list[str]:
    """Return the lines that make `inputs` of a text, or of two, as tokens.encode and generation.encode do."""
    text = '"..."'
    if pairs:
        text = '"...", "..."' if tokenizer.num_special_tokens_to_add(pair=True) else r'"...\n..."'
    _, mark = end_mark(tokenizer) if writes else (None, [])
    if not mark:
        return [f'inputs = tokenizer({text}, truncation=True, max_length={length}, return_tensors="pt")']
    return [
        f"inputs = tokenizer({text}, truncation=True, max_length={length - len(mark)})",
        "# What is written follows from the end mark, which this tokenizer does not set.",
        f'inputs["input_ids"] += {mark}', 'inputs["attention_mask"] += [1]',
        'inputs = inputs.convert_to_tensors("pt", prepend_batch_axis=True)',
    ]  # fmt: skip


def _origin(study: Study, spec: RunSpec, record: Mapping[str, Any], test: Mapping[str, Any], checked: str) -> str:
    measured, made = record["measured"], record["provenance"]
    backbone = study.backbones[spec.backbone]
    origin = f"`{backbone.hub}` at `{backbone.revision}`" if backbone.hub else ORIGINS[backbone.kind]
    packages = ", ".join(f"{name} {version}" for name, version in made["packages"].items() if version)
    changed = " (with changes that were not committed)" if made.get("dirty") else ""
    rows = {
        "run": f"`{spec.path}`",
        "dataset, split": f"{spec.dataset}, {spec.split}: {measured['train_examples']:,} examples to train on, "
        f"{measured['validation_examples']:,} to choose by, {test['test_examples']:,} for test",
        "backbone": f"{spec.backbone}, {origin}",
        "seed": str(spec.seed),
        "learning rate, epochs, steps": f"{measured['learning_rate']:g}, {measured['epochs']}, {measured['steps']:,}; "
        f"the weights are those after epoch {measured['chosen_epoch']}, test chose nothing",
        "trained parameters": f"{measured['method_parameters']:,} of the method, {measured['head_parameters']:,} of "
        "the head",
        "seconds of training": f"{measured['training_seconds']:.0f} on {made['machine']['device']}, "
        f"in {spec.training.precision}",
        "commit": f"`{made['commit']}`{changed}" if made["commit"] else "unknown",
        "versions": f"Python {made['python']}, {packages}",
        "weights": checked,
    }
    table = "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {said} |" for name, said in rows.items())])
    return "\n\n".join([
        table,
        "All that was asked and measured is in `run.json`.",
        "No licence is given here: those of the backbone and of the data hold, and who publishes this adds their own.",
    ])  # fmt: skip
