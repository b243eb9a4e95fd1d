"""A published folder gives the run's predictions by the lines of its own card, and says where it is from."""

import re
import shutil

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import torch
from made_tasks import dataset

from peftstudy import __main__, building, checking, evaluation, files, runs, strict_yaml, tasks, tokens
from peftstudy.configuration import from_config
from peftstudy.publication import cards, formats, publishing
from peftstudy.records import Place
from peftstudy.splits import cut, write_split

METHODS = {"lora": {"rank": 2}, "houlsby": {}, "prompt": {"tokens": 4}, "bitfit": {}, "full": {}}
LIBRARIES = {
    "lora": "peft", "houlsby": "adapters", "prompt": "peftstudy", "bitfit": "transformers", "full": "transformers",
}  # fmt: skip
KEPT = ("lora",)


def config(task, backbone, methods=METHODS, seeds=(0, 1), **workflow):
    block = {key: value for key, value in vars(dataset(task)).items() if key in ("label", "task", "text")}
    return {
        "study": "made", "title": "Made texts", "question": "What is worth its cost?",
        "sources": {"made": {"kind": "files", "path": "data", "files": {"all": "made.csv"}}},
        "datasets": {"made": block | {"source": "made"}}, "splits": ["50-50"], "methods": methods,
        "backbones": {"tiny": {"folder": str(backbone)}}, "seeds": list(seeds),
        "training": {"epochs": 3, "batch_size": 8, "learning_rate": 3e-2}, "workflow": workflow,
    }  # fmt: skip


def run_study(results, asked, data, backbone):
    """Do what the workflow does, up to the runs' predictions."""
    study = from_config(asked)
    files.write_json(results / "study.json", asked)
    examples = data.parent / "examples.parquet"
    place = results / "splits/made/50-50"
    write_split(cut(pd.read_parquet(examples), "50-50", 0.1, 0), place, examples)
    shutil.copytree(data, results / "tokens/made/tiny")
    shutil.copytree(backbone, results / "backbones/tiny")
    inputs = building.Inputs(
        results / "tokens/made/tiny", results / "backbones/tiny", results / "state/runs", results / "runs",
        torch.device("cpu"),
    )  # fmt: skip
    runs.train_pack(study.runs(), inputs, place / "train.npy", place / "validation.npy")
    evaluation.evaluate_pack(study.runs(), inputs, place / "test.npy", study.keep_weights)
    return study


@pytest.fixture(scope="module")
def results(bert, make_task_tokens, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "made"
    data = make_task_tokens("classification", "bert")
    run_study(folder, config("classification", bert, keep_weights=list(KEPT)), data, bert)
    return folder


@pytest.fixture(scope="module")
def published(results):
    """The folder of each method's second run."""
    for method in METHODS:
        name, folder = f"made/50-50/tiny/{method}/seed-1", results / "out" / method
        assert __main__.main(["publish", name, "--to", str(folder), "--results", str(results)]) == 0
    return results / "out"


def blocks(folder):
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("method", METHODS)
def test_the_lines_of_the_card_give_the_stored_predictions_from_the_texts(method, published, make_task_tokens):
    folder = published / method
    loading, reading = blocks(folder)
    model = formats.run(loading.splitlines(), folder)
    stored = pd.read_parquet(folder.parents[1] / f"runs/made/50-50/tiny/{method}/seed-1/predictions.parquet")
    between_texts = np.ptp(np.stack(stored.logits), axis=0).max()
    assert between_texts > 1e-4
    texts = pd.read_parquet(make_task_tokens("classification", "bert").parent / "examples.parquet").text
    for row in stored.itertuples():
        lines = ["model = None", *reading.replace('"..."', repr(texts[row.example])).splitlines(), "model = inputs"]
        with torch.no_grad():
            logits = model(**formats.run(lines, folder)).logits[0]
        assert np.abs(logits.numpy() - row.logits).max() < 0.01 * between_texts


@pytest.mark.parametrize("method", METHODS)
def test_the_card_names_study_run_score_and_interval_in_the_hub_s_form(method, published):
    card = huggingface_hub.ModelCard.load(published / method / "README.md")
    assert card.data.library_name == LIBRARIES[method] and card.data.license is None
    [result] = card.data.eval_results
    scores = [
        files.read_json(published.parent / f"runs/made/50-50/tiny/{method}/seed-{seed}/test.json")["scores"]["accuracy"]
        for seed in (0, 1)
    ]
    assert result.metric_type == "accuracy" and result.metric_value == pytest.approx(scores[1], abs=1e-4)
    assert f"mean is {sum(scores) / 2:.3f}" in card.text
    assert ("95 % interval" in card.text) == (scores[0] != scores[1])
    for said in ("Made texts", "`made/50-50/tiny/" + method, "from a local folder", "| seed | 1 |", "transformers 4."):
        assert said in card.text
    assert "Classes, by number: 0 0, 1 1, 2 2." in card.text
    assert str(published) not in "".join(path.read_text() for path in (published / method).glob("*.*")
                                         if path.suffix in (".md", ".json") and path.name != "run.json")  # fmt: skip


def test_what_to_expect_of_a_method_is_its_mean_over_seeds():
    said = cards._expected(pd.Series([0.4, 0.6], index=["0", "1"]))
    assert "Over the 2 seeds that finished the mean is 0.500, 95 % interval -0.771 to 1.771" in said


def test_weights_are_those_that_were_kept_or_the_same_to_the_bit(published):
    said = {method: (published / method / "README.md").read_text() for method in METHODS}
    for method, text in said.items():
        assert ("as the run left them" if method in KEPT else "the same to the bit;") in text
        assert (published.parent / f"state/runs/made/50-50/tiny/{method}/seed-1/trained.safetensors").exists() == (
            method in KEPT
        )


def test_a_damaged_kept_file_is_not_published(results, tmp_path, capsys):
    place = Place(results / "state/runs/made/50-50/tiny/lora/seed-0")
    content = place.weights.read_bytes()
    place.weights.write_bytes(content[:-4] + b"\0\0\0\1")
    asked = ["publish", "made/50-50/tiny/lora/seed-0", "--to", str(tmp_path / "x"), "--results", str(results)]
    assert __main__.main(asked) == 0
    place.weights.write_bytes(content)
    assert "from training the run again, the same to the bit" in capsys.readouterr().err


def refused(capsys, *arguments):
    assert __main__.main(["publish", *map(str, arguments)]) == 1
    return capsys.readouterr().err


def test_bad_input_gets_a_sentence(results, tmp_path, capsys):
    there, lora = ["--results", results], "made/50-50/tiny/lora/seed-0"
    said = refused(capsys, "made/50-50/tiny/lroa/seed-0", "--to", tmp_path / "x", *there)
    assert "unknown run 'made/50-50/tiny/lroa/seed-0'" in said and "near it are made/50-50/tiny/lora/seed-0" in said
    assert "is there already" in refused(capsys, lora, "--to", tmp_path, *there)
    copy = shutil.copytree(results, tmp_path / "copy")
    record = files.read_sealed(copy / "runs" / lora / "record.json")
    files.write_sealed(copy / "runs" / lora / "record.json", record | {"status": "diverged", "reason": "NaN"})
    assert "the run diverged (NaN); there is no model" in refused(
        capsys, lora, "--to", tmp_path / "x", "--results", copy
    )
    (copy / "runs" / lora / "record.json").unlink()
    assert "the run is not done" in refused(capsys, lora, "--to", tmp_path / "x", "--results", copy)
    shutil.rmtree(copy / "tokens")
    said = refused(capsys, "made/50-50/tiny/full/seed-0", "--to", tmp_path / "x", "--results", copy)
    assert "no such file, and the model is made from it" in said
    assert not (tmp_path / "x").exists()


def test_a_model_that_answers_otherwise_is_refused_and_leaves_nothing(results, tmp_path, capsys):
    """As on another machine: the stored predictions are not those that the weights give."""
    copy, run = shutil.copytree(results, tmp_path / "copy"), "made/50-50/tiny/bitfit/seed-0"
    path = copy / "runs" / run / "predictions.parquet"
    stored = pd.read_parquet(path)
    stored.assign(predicted=(stored.predicted + 1) % 3).to_parquet(path)
    test = files.read_sealed(path.with_name("test.json"))
    files.write_sealed(path.with_name("test.json"), test | {"files": {path.name: files.sha256(path)}})
    said = refused(capsys, run, "--to", tmp_path / "x", "--results", copy)
    assert "test examples otherwise than its record" in said and "workflow.keep_weights" in said
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("task", [name for name in tasks.registered() if name != "classification"])
def test_every_task_s_models_can_be_published(task, bert, make_backbone, make_task_tokens, tmp_path):
    family = "gpt2" if tasks.create(task).writes else "bert"
    backbone, asked = make_backbone(family), config(task, make_backbone(family), {"lora": {"rank": 2}}, seeds=(0,))
    study = run_study(tmp_path / "made", asked, make_task_tokens(task, family), backbone)
    [spec] = study.runs()
    publishing.publish(study, tmp_path / "made", spec.path, tmp_path / "out", torch.device("cpu"))
    loading, reading = (block.splitlines() for block in blocks(tmp_path / "out"))
    assert formats.run(loading, tmp_path / "out").training is False
    if task in ("regression", "generation", "label-generation"):
        examples = pd.read_parquet(make_task_tokens(task, family).parent / "examples.parquet")
        texts = list(map(repr, examples[[name for name in ("text", "text_pair") if name in examples]].iloc[0]))
        lines = "\n".join([*reading, "model = inputs"]).replace(", ".join(['"..."'] * len(texts)), ", ".join(texts))
        ids = formats.run(lines.splitlines(), tmp_path / "out")["input_ids"][0].tolist()
        data = tokens.load(tmp_path / "made/tokens/made/tiny")
        assert ids == data.input_ids[: data.lengths[0]].tolist()
    card = (tmp_path / "out/README.md").read_text()
    assert "It is the score of one seed" in card and ("and a fresh head" in card) == (not tasks.create(task).writes)


def test_a_method_that_is_to_keep_its_weights_must_be_known():
    asked = strict_yaml.load("config.yaml") | {"workflow": {"keep_weights": ["lroa"]}}
    with pytest.raises(Exception, match=r"workflow.keep_weights: unknown method 'lroa'.*Did you mean 'lora'"):
        checking.check(asked, "config.yaml")


def test_a_run_whose_initialisation_and_order_have_seeds_of_their_own(bert, make_task_tokens, tmp_path):
    asked = config("classification", bert, {"prompt": {"tokens": 4}}) | {"seeds": {"initialization": [0], "order": [1]}}
    study = run_study(tmp_path / "made", asked, make_task_tokens("classification", "bert"), bert)
    place = study.runs()[0].path
    assert place.endswith("seed-i0-o1")
    said = publishing.publish(study, tmp_path / "made", place, tmp_path / "out", torch.device("cpu"))
    assert "the same to the bit; loaded as above, the model answers 60 of 60" in said
    assert "| seed | i0-o1 |" in (tmp_path / "out/README.md").read_text()
