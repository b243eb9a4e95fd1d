import dataclasses
import json
import re
import shutil
import signal
import threading

import numpy as np
import own_method
import pandas as pd
import pytest
import torch

from peftstudy import (
    building,
    evaluation,
    files,
    locks,
    metrics,
    mishaps,
    runs,
    sampling,
    stopping,
    tokens,
    training,
    trials,
)
from peftstudy.errors import StudyError
from peftstudy.records import Place
from peftstudy.shapes import read_shape
from peftstudy.specs import Range, RunSpec, Search, Training
from peftstudy.tasks.classification import Classification

PARTS = {"train": np.arange(96), "validation": np.arange(96, 144), "test": np.arange(144, 240)}


def spec(method="bitfit", seed=0, options=(), **settings):
    budget = Training(**{"epochs": 2, "batch_size": 16, "learning_rate": 3e-3} | settings)
    return RunSpec("made", "90-10", "bert", method, seed, "classification", method, options, budget, Search())


@pytest.fixture
def inputs(bert, make_tokens, tmp_path):
    write_parts(tmp_path, PARTS)
    return building.Inputs(
        make_tokens("bert"), bert, tmp_path / "state", tmp_path / "runs", torch.device("cpu"), checkpoint_seconds=0
    )


def write_parts(folder, parts):
    for name, part in parts.items():
        np.save(folder / f"{name}.npy", part.astype(np.int32))
    files.write_json(folder / "split.json", {"sha256": {name: files.sha256(folder / f"{name}.npy") for name in parts}})


def train(specs, inputs):
    return runs.train_pack(specs, inputs, inputs.state.parent / "train.npy", inputs.state.parent / "validation.npy")


def evaluate(specs, inputs):
    return evaluation.evaluate_pack(specs, inputs, inputs.state.parent / "test.npy")


def steps_taken(monkeypatch):
    taken, step = [], training.Run._step
    monkeypatch.setattr(training.Run, "_step", lambda self, *rest: taken.append(1) or step(self, *rest))
    return taken


def test_a_run_leaves_what_was_asked_measured_and_where_from(inputs):
    [record] = train([spec()], inputs)
    folder = inputs.output / spec().path
    assert files.read_sealed(folder / "record.json") == json.loads(json.dumps(record))
    assert record["asked"] == spec().as_dict()
    assert RunSpec.from_dict(record["asked"]) == spec()
    assert record["status"] == "finished"
    measured = record["measured"]
    assert measured["steps"] == 12 and measured["train_examples"] == 96
    assert 0 < measured["training_seconds"] < 60
    phases = [measured[f"{phase}_seconds"] for phase in ("forward", "backward", "optimizer")]
    assert min(phases) > 0 and sum(phases) <= measured["training_seconds"]
    assert measured["method_parameters"] > 0 and measured["head_parameters"] > 0
    assert measured["stored_bytes"] == 4 * (measured["method_parameters"] + measured["head_parameters"])
    assert measured["peak_memory_bytes"] > 10**8
    assert set(record["provenance"]["inputs"]) == {"tokens", "backbone", "train", "validation"}
    assert len(pd.read_csv(folder / "history.csv")) == 2


def test_an_older_record_that_snakemake_put_back_gives_way_to_the_new_one(inputs):
    older, asked = spec(epochs=1), spec(epochs=2)
    train([older], inputs)
    path = inputs.output / asked.path / "record.json"
    put_back = path.read_bytes()
    train([asked], inputs)
    path.write_bytes(put_back)
    evaluate([asked], inputs)
    assert files.read_json(path)["asked"] == asked.as_dict()


def test_evaluation_scores_the_kept_weights_on_test_alone(inputs):
    train([spec("full", learning_rate=5e-3, epochs=8)], inputs)
    [result] = evaluate([spec("full", learning_rate=5e-3, epochs=8)], inputs)
    predictions = pd.read_parquet(inputs.output / spec("full").path / "predictions.parquet")
    assert predictions["example"].tolist() == list(range(144, 240))
    assert result["scores"]["accuracy"] == (predictions["predicted"] == predictions["label"]).mean() > 0.6
    logits = np.stack(predictions["logits"])
    assert np.array_equal(logits.argmax(1), predictions["predicted"])
    assert result["curve"] == [] and not result["is_collapsed"]
    assert not (inputs.state / spec("full").path / "trained.safetensors").exists()


def test_a_test_curve_scores_every_epoch_and_ends_at_the_reported_score(inputs):
    asked = spec("full", learning_rate=5e-3, epochs=3, select="last", test_curve=True)
    train([asked], inputs)
    [result] = evaluate([asked], inputs)
    assert len(result["curve"]) == 3
    assert result["curve"][-1] == result["scores"]["accuracy"]
    assert result["curve"][0] != result["curve"][-1]


def test_the_curve_is_of_the_weights_after_each_epoch_and_none_is_scored_twice(inputs, monkeypatch):
    asked = spec("full", learning_rate=5e-3, epochs=3, test_curve=True)
    [record] = train([asked], inputs)
    place = Place(inputs.state / asked.path)
    assert files.sha256(place.epoch_weights(record["measured"]["chosen_epoch"])) == files.sha256(place.weights)
    taken, score = [], evaluation._score
    monkeypatch.setattr(evaluation, "_score", lambda *given: taken.append(given[4]) or score(*given))
    [result] = evaluate([asked], inputs)
    assert len(taken) == len(result["curve"]) == 3
    assert result["curve"][record["measured"]["chosen_epoch"] - 1] == result["scores"]["accuracy"]


def test_finished_runs_are_not_done_again(inputs, monkeypatch):
    first = train([spec()], inputs)
    evaluate([spec()], inputs)
    (inputs.output / spec().path / "record.json").unlink()  # as a workflow does that stops half-way
    taken = steps_taken(monkeypatch)
    again = train([spec(), spec(seed=1)], inputs)
    assert len(taken) == 12, "the added seed alone"
    assert again[0] == first[0]
    evaluate([spec(), spec(seed=1)], inputs)
    assert (inputs.output / spec().path / "record.json").exists()


def test_a_changed_option_or_input_repeats_the_run(inputs, monkeypatch):
    train([spec("lora")], inputs)
    taken = steps_taken(monkeypatch)
    train([spec("lora", options=(("rank", 4),))], inputs)
    assert len(taken) == 12
    write_parts(inputs.state.parent, {**PARTS, "train": np.arange(64)})
    train([spec("lora", options=(("rank", 4),))], inputs)
    assert len(taken) == 12 + 8


def test_an_interrupted_run_goes_on_and_ends_with_the_same_record(inputs, monkeypatch, tmp_path):
    asked = spec("full", epochs=4)
    whole = train([asked], dataclasses.replace(inputs, state=tmp_path / "s2", output=tmp_path / "r2"))[0]
    taken, step = [], training.Run._step

    def killed(self, *rest):
        taken.append(1)
        if len(taken) == 15:
            raise KeyboardInterrupt
        return step(self, *rest)

    monkeypatch.setattr(training.Run, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train([asked], inputs)
    assert not (inputs.output / asked.path).exists()
    record = train([asked], inputs)[0]
    assert len(taken) == 15 + 10, "from the last step that was done"
    is_number = lambda name: not name.endswith(("_seconds", "_per_second")) and "memory" not in name  # noqa: E731
    assert {k: v for k, v in record["measured"].items() if is_number(k)} == {
        k: v for k, v in whole["measured"].items() if is_number(k)
    }
    history = [pd.read_csv(root / asked.path / "history.csv") for root in (inputs.output, tmp_path / "r2")]
    assert history[0].filter(regex="loss|score").equals(history[1].filter(regex="loss|score"))


def test_a_failed_run_does_not_sink_its_neighbours(inputs, monkeypatch):
    build = runs.build

    def failing(asked, *rest):
        if asked.seed == 0:
            raise torch.OutOfMemoryError("no memory left")
        return build(asked, *rest)

    monkeypatch.setattr(runs, "build", failing)
    failed, finished = train([spec(), spec(seed=1)], inputs)
    assert (failed["status"], finished["status"]) == ("failed", "finished")
    assert failed["reason"] == "OutOfMemoryError: no memory left"
    assert "scores" not in evaluate([spec()], inputs)[0]
    assert len(pd.read_parquet(inputs.output / spec().path / "predictions.parquet")) == 0
    monkeypatch.undo()
    assert train([spec()], inputs)[0]["status"] == "finished", "a failed run is tried again"
    assert "scores" in evaluate([spec()], inputs)[0]
    assert len(pd.read_parquet(inputs.output / spec().path / "predictions.parquet")) == 96


def test_a_fault_of_a_method_s_own_code_does_not_either_and_the_log_has_where(inputs, monkeypatch, caplog):
    build = runs.build
    monkeypatch.setattr(runs, "build", lambda asked, *rest: [][1] if asked.seed == 0 else build(asked, *rest))
    failed, finished = train([spec(), spec(seed=1)], inputs)
    assert (failed["reason"], finished["status"]) == ("IndexError: list index out of range", "finished")
    assert "Traceback" in caplog.text and "test_runs.py" in caplog.text


def test_what_a_user_must_mend_for_one_run_does_not_either(inputs, tmp_path):
    own = tmp_path / "mine.py"
    own.write_text(own_method.text("runs-one"))
    changed = dataclasses.replace(spec("mine"), adaptation=str(own), code="0" * 64)
    failed, finished = train([changed, spec()], inputs)
    assert (failed["status"], finished["status"]) == ("failed", "finished")
    assert failed["reason"].endswith("mine.py: not as it was when made/90-10/bert/mine/seed-0 was planned; start the "
                                     "study again.")  # fmt: skip


def test_on_several_devices_it_is_noted_and_recorded_at_the_next_start(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "made")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    place = Place(tmp_path)
    for end in (stopping.Stopped("SIGTERM"), mishaps.Again("out of device memory")):
        with pytest.raises(type(end), match=str(end)), mishaps.note(place):
            raise end
    assert mishaps.noted(place) is None
    with pytest.raises(mishaps.Again, match="the weights are gone; all its processes end"), mishaps.note(place):
        raise StudyError("the weights are gone")
    assert mishaps.noted(place) == "the weights are gone (process 0)"


def test_a_diverged_run_is_recorded_as_such(inputs):
    asked = spec("full", learning_rate=1e30, gradient_norm=1e30)
    record = train([asked], inputs)[0]
    assert record["status"] == "diverged"
    assert record["reason"] == "the training loss was not finite in epoch 1"
    assert evaluate([asked], inputs)[0].keys() == {"key", "record", "files"}


def test_a_run_that_gives_one_answer_to_everything_is_recorded_as_collapsed(inputs):
    asked = spec("head", learning_rate=1e-12)
    train([asked], inputs)
    assert evaluate([asked], inputs)[0]["is_collapsed"]
    assert metrics.run_row(asked, inputs.output / asked.path)["collapsed"]


def test_another_main_metric_chooses_epochs_and_rates_and_is_the_score(inputs):
    rates = {"learning_rate": (1e-3, 5e-3), "epochs": 4}
    usual = dataclasses.replace(spec("full", **rates), search=Search(epochs=1, examples=64))
    asked = dataclasses.replace(usual, metric="mcc")
    folder, found = inputs.output / usual.path, {}
    for run in (usual, asked):
        [record] = train([run], inputs)
        history = pd.read_csv(folder / "history.csv")
        assert record["measured"]["validation_score"] == history.validation_score.max()
        assert record["measured"]["chosen_epoch"] == history.validation_score.argmax() + 1
        found[run.metric] = history, files.read_json(folder.parent / "search.json")["trials"]
    (plain, trials), (by_mcc, mcc_trials) = found.values()
    assert plain.validation_loss.tolist() == by_mcc.validation_loss.tolist()
    assert (plain.validation_score > by_mcc.validation_score).any(), "right answers by chance do not count"
    assert [one["validation_loss"] for one in trials] == [one["validation_loss"] for one in mcc_trials]
    assert [one["validation_score"] for one in trials] != [one["validation_score"] for one in mcc_trials]
    [test] = evaluate([asked], inputs)
    row = metrics.run_row(asked, folder)
    assert row["metric"] == test["metric"] == "mcc" and row["test_score"] == test["scores"]["mcc"] == row["test_mcc"]
    assert metrics.run_row(usual, folder)["status"] == "missing"


def test_of_several_rates_validation_takes_one_for_all_seeds(inputs, monkeypatch):
    asked = [spec("full", seed=seed, learning_rate=(1e-7, 5e-3), epochs=6) for seed in (0, 1)]
    asked = [dataclasses.replace(run, search=Search(epochs=4, examples=64, seed=7)) for run in asked]
    taken = steps_taken(monkeypatch)
    records = train(asked, inputs)
    assert len(taken) == 2 * 4 * 4 + 2 * 36, "two trials of four epochs of 64 examples, then two runs"
    assert [record["measured"]["learning_rate"] for record in records] == [5e-3, 5e-3]
    found = files.read_json((inputs.output / asked[0].path).parent / "search.json")
    assert [trial["learning_rate"] for trial in found["trials"]] == [1e-7, 5e-3]
    assert found["learning_rate"] == 5e-3
    assert records[0]["asked"]["training"]["learning_rate"] == [1e-7, 5e-3]


@pytest.mark.parametrize("rates", [(1e-7, 1e-3, 5e-3), Range(1e-6, 1e-2, 3)], ids=["list", "range"])
def test_a_search_that_is_interrupted_goes_on_with_the_trial_that_was_under_way(rates, inputs, monkeypatch, tmp_path):
    asked = dataclasses.replace(
        spec("full", learning_rate=rates, epochs=1), search=Search(epochs=2, examples=64, seed=7, sampler="tpe")
    )
    elsewhere = dataclasses.replace(inputs, state=tmp_path / "s2", output=tmp_path / "r2")
    train([asked], elsewhere)
    taken, step = [], training.Run._step

    def killed(self, *rest):
        taken.append(1)
        if len(taken) == 8 + 4:  # within the second trial of two epochs of four steps
            raise KeyboardInterrupt
        return step(self, *rest)

    monkeypatch.setattr(training.Run, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train([asked], inputs)
    train([asked], inputs)
    assert len(taken) == 12 + (5 + 8) + 6, "what was left of the second trial, the third, and the run"
    cell = asked.path.rpartition("/")[0]
    found, whole = (files.read_json(place.output / cell / "search.json") for place in (inputs, elsewhere))
    assert found == whole
    assert {path.name for path in (inputs.state / cell).iterdir()} == {"search.json", "seed-0"}


def test_a_sampler_takes_the_rates_and_takes_the_same_again(inputs, tmp_path):
    asked = spec("full", learning_rate=Range(1e-6, 1e-2, 4), epochs=1)
    asked = dataclasses.replace(asked, search=Search(epochs=2, examples=64, seed=7, sampler="tpe"))
    [record] = train([asked], inputs)
    found = files.read_json((inputs.output / asked.path).parent / "search.json")
    rates = [trial["learning_rate"] for trial in found["trials"]]
    assert len(rates) == 4 and all(1e-6 <= rate <= 1e-2 for rate in rates)
    assert (
        record["measured"]["learning_rate"] == found["learning_rate"] == sampling.best(found["trials"])["learning_rate"]
    )
    again = dataclasses.replace(inputs, state=tmp_path / "s2", output=tmp_path / "r2")
    train([RunSpec.from_dict(record["asked"])], again)
    assert files.read_json((again.output / asked.path).parent / "search.json")["trials"] == found["trials"]


def test_a_budget_in_seconds_is_as_many_steps_for_all_seeds(inputs, monkeypatch):
    once, each = {"head": 0.5, "full": 0.0}, {"head": 0.05, "full": 0.1}
    taken = lambda self, spec, steps: once[spec.adaptation] + steps * each[spec.adaptation]  # noqa: E731
    monkeypatch.setattr(trials.Trials, "seconds", taken)
    asked = [spec(method, seed, seconds=1.0) for method in ("head", "full") for seed in (0, 1)]
    assert [record["measured"]["steps"] for record in train(asked, inputs)] == [10, 10, 10, 10]
    kept = files.read_json(inputs.state / "made/90-10/bert/head/budget.json")
    assert (kept["steps"], kept["once_seconds"], kept["step_seconds"]) == (10, pytest.approx(0.5), pytest.approx(0.05))
    monkeypatch.setattr(trials.Trials, "seconds", lambda *rest: pytest.fail("timed again"))
    assert train([spec("full", 2, seconds=1.0)], inputs)[0]["measured"]["steps"] == 10


def test_where_noise_hides_what_is_done_once_the_steps_take_all(inputs, monkeypatch):
    monkeypatch.setattr(trials.Trials, "seconds", lambda self, spec, steps: 2.0)
    assert train([spec("head", seconds=1.0)], inputs)[0]["measured"]["steps"] == 10
    kept = files.read_json(inputs.state / "made/90-10/bert/head/budget.json")
    assert (kept["once_seconds"], kept["step_seconds"]) == (0.0, 0.1)


def test_the_seconds_of_training_are_about_those_asked_for(inputs):
    [record] = train([spec("full", seconds=1.5)], inputs)
    assert 0.3 < record["measured"]["training_seconds"] < 10
    assert record["measured"]["steps"] > 12 and record["asked"]["training"]["seconds"] == 1.5


def test_a_request_that_goes_without_seconds_is_the_one_it_was():
    assert "seconds" not in spec().as_dict()["training"]
    assert RunSpec.from_dict(spec(seconds=2.0).as_dict()) == spec(seconds=2.0)


def test_texts_that_have_no_room_beside_added_tokens_do_not_stop_their_neighbours(inputs):
    records = train([spec("prompt", options=(("tokens", 60),)), spec("bitfit")], inputs)
    assert [record["status"] for record in records] == ["failed", "finished"]
    assert re.fullmatch(
        r"methods.prompt: 60 added tokens and texts of up to \d+ tokens do not fit the 64 positions of bert; "
        r"add fewer, lower datasets.made.max_length, or set one for this backbone.",
        records[0]["reason"],
    )


def test_a_method_that_a_backbone_cannot_have_does_not_stop_its_neighbours(inputs):
    """Of a backbone from the hub it is known no sooner than here."""
    records = train([spec("layers", options=(("last", 9),)), spec("bitfit")], inputs)
    assert [record["status"] for record in records] == ["failed", "finished"]
    assert records[0]["reason"].startswith("impossible on this backbone: ")


@pytest.mark.parametrize("family", ["gpt2", "bart"])
def test_what_is_to_be_written_has_room(family, make_backbone, make_task_tokens, tmp_path):
    """Behind the longest source, though the targets of training are short."""
    backbone = make_backbone(family)
    data = tokens.load(make_task_tokens("generation", family))
    positions = read_shape(backbone).positions
    room = positions - (data.about["longest"] if family == "gpt2" else 0)
    asked = dataclasses.replace(spec("full"), task="generation", backbone=family)
    made = building.Inputs(tmp_path, backbone, tmp_path, tmp_path, torch.device("cpu"))
    fits, not_so = (
        building.misfit(asked, made, dataclasses.replace(data, about=data.about | {"target_length": room + more}))
        for more in (0, 1)
    )
    said = {"gpt2": "lower datasets.made.max_length or target_length,", "bart": f"target_length: found {room + 1}, and"}
    assert fits is None and said[family] in not_so


@pytest.mark.parametrize(("family", "fits"), [("gpt2", False), ("bart", True), ("t5", True)])
def test_a_decoder_reads_source_and_target_as_one_text(family, fits, make_backbone, make_task_tokens, tmp_path):
    """An encoder-decoder has a stack for each, and T5 takes texts of any length."""
    backbone = make_backbone(family)
    data = tokens.load(make_task_tokens("generation", family))
    positions = 10**6 if family == "t5" else read_shape(backbone).positions
    data = dataclasses.replace(data, about=data.about | {"longest": positions, "longest_whole": positions + 1})
    asked = dataclasses.replace(spec("lora"), task="generation", backbone=family)
    made = building.Inputs(tmp_path, backbone, tmp_path, tmp_path, torch.device("cpu"))
    if fits:
        building.build(asked, made, data)
    else:
        with pytest.raises(StudyError, match=f"do not fit the {positions} positions"):
            building.build(asked, made, data)


def test_lost_weights_are_told(inputs):
    train([spec()], inputs)
    (inputs.state / spec().path / "trained.safetensors").unlink()
    with pytest.raises(StudyError, match="the trained weights are gone"):
        evaluate([spec()], inputs)


def flip(path):
    """Turn one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["record.json", "history.csv"])
def test_a_flipped_bit_in_a_kept_record_repeats_the_run_to_the_same_numbers(inputs, monkeypatch, name, caplog):
    first = train([spec()], inputs)[0]
    flip(inputs.state / spec().path / name)
    taken = steps_taken(monkeypatch)
    again = train([spec()], inputs)[0]
    assert len(taken) == 12
    assert "found damaged, and done again" in caplog.text
    assert again["measured"]["validation_loss"] == first["measured"]["validation_loss"]
    assert files.read_sealed(inputs.output / spec().path / "record.json") == again


@pytest.mark.parametrize("name", ["record.json", "history.csv", "test.json", "predictions.parquet"])
def test_a_flipped_bit_in_a_published_file_is_told_and_mended_from_the_kept_one(inputs, name, monkeypatch):
    train([spec()], inputs)
    evaluate([spec()], inputs)
    folder = inputs.output / spec().path
    whole = metrics.run_row(spec(), folder)
    flip(folder / name)
    with pytest.raises(StudyError, match=r"(damaged|not a whole JSON file).* delete "):
        metrics.run_row(spec(), folder)
    shutil.rmtree(folder)
    taken = steps_taken(monkeypatch)
    train([spec()], inputs)
    evaluate([spec()], inputs)
    assert taken == [] and metrics.run_row(spec(), folder) == whole


@pytest.mark.parametrize(
    "file", ["tokens/input_ids.npy", "tokens/labels.npy", "backbone/model.safetensors", "train.npy"]
)
def test_a_flipped_bit_in_an_input_is_told(inputs, tmp_path, file):
    own = dataclasses.replace(inputs, tokens=tmp_path / "tokens", backbone=tmp_path / "backbone")
    shutil.copytree(inputs.tokens, own.tokens)
    shutil.copytree(inputs.backbone, own.backbone)
    flip(tmp_path / file)
    with pytest.raises(StudyError, match=rf"{file}: damaged \(its checksum differs\); delete "):
        train([spec()], own)


def test_a_flipped_bit_in_trained_weights_is_told(inputs):
    train([spec()], inputs)
    flip(inputs.state / spec().path / "trained.safetensors")
    with pytest.raises(StudyError, match=r"trained\.safetensors: damaged"):
        evaluate([spec()], inputs)


def memory_for(size, monkeypatch):
    """Let the device's memory be too small for a step with more examples at once."""
    targets = training.targets

    def scarce(task, data, index, device):
        if len(index) > size and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return targets(task, data, index, device)

    monkeypatch.setattr(training, "targets", scarce)


def test_out_of_device_memory_is_tried_again_with_smaller_parts_and_recorded(inputs, monkeypatch, caplog):
    asked = spec("full", epochs=2)
    other = dataclasses.replace(inputs, state=inputs.state.with_name("other"))
    [small] = train([spec("full", epochs=2, micro_batch_size=4)], other)
    memory_for(4, monkeypatch)
    record = train([asked], inputs)[0]
    assert record["status"] == "finished"
    assert record["measured"]["micro_batch_size"] == 4
    assert record["asked"]["training"]["micro_batch_size"] == 32, "the same run, by another way"
    assert record["measured"]["validation_loss"] == small["measured"]["validation_loss"]
    assert [line.rpartition("; ")[2] for line in caplog.messages if "out of device memory" in line] == [
        "again with micro-batches of 8", "again with micro-batches of 4",
    ]  # fmt: skip


def test_a_size_that_changes_nothing_is_not_tried(inputs, monkeypatch, caplog):
    """Padded batches go through the model in parts of eight examples, whatever was asked for."""
    taken = steps_taken(monkeypatch)
    memory_for(4, monkeypatch)
    [record] = train([spec("prefix", epochs=1)], inputs)
    assert (record["status"], record["measured"]["micro_batch_size"], len(taken)) == ("finished", 4, 1 + 6)
    assert [line[-1] for line in caplog.messages if "out of device memory" in line] == ["4"]


def test_memory_that_is_too_small_for_the_model_is_no_matter_of_the_batch(inputs, monkeypatch):
    built = []

    def scarce(*given):
        built.append(1)
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(runs, "build", scarce)
    [record] = train([spec()], inputs)
    assert (record["status"], len(built)) == ("failed", 1)


@pytest.mark.parametrize("settings", [{"learning_rate": (1e-3, 3e-3)}, {"seconds": 0.5}], ids=str)
def test_trials_take_smaller_parts_too(settings, inputs, monkeypatch):
    memory_for(4, monkeypatch)
    records = train([spec("full", seed, **settings) for seed in (0, 1)], inputs)
    assert [(record["status"], record["measured"]["micro_batch_size"]) for record in records] == [("finished", 4)] * 2


def test_a_trial_that_diverged_has_no_score_and_is_not_chosen(inputs):
    [record] = train([spec("full", learning_rate=(1e30, 3e-3))], inputs)
    assert record["status"] == "finished" and record["measured"]["learning_rate"] == 3e-3
    found = files.read_json(inputs.state / "made/90-10/bert/full/search.json")["trials"]
    assert [trial["validation_score"] is None for trial in found] == [True, False]


def answered(size, monkeypatch):
    """Let the device's memory be too small for the answers to more examples at once; return the sizes that were."""
    found, logits = [], Classification.logits

    def scarce(self, engine, data, index):
        if len(index) > size and torch.is_inference_mode_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if torch.is_inference_mode_enabled():
            found.append(len(index))
        return logits(self, engine, data, index)

    monkeypatch.setattr(Classification, "logits", scarce)
    return found


def test_out_of_device_memory_in_validation_costs_no_step_and_in_evaluation_no_run(inputs, monkeypatch, caplog):
    asked = spec("full", epochs=2)
    other = dataclasses.replace(inputs, state=inputs.state.with_name("other"), output=inputs.state.with_name("o"))
    [whole] = train([asked], other)
    [scored] = evaluate([asked], other)
    taken, sizes = steps_taken(monkeypatch), answered(10, monkeypatch)
    [record] = train([asked], inputs)
    assert len(taken) == 12 and record["measured"]["micro_batch_size"] == 16
    assert sizes == 2 * [8, 8, 8, 8, 8, 8]
    assert record["measured"]["validation_loss"] == pytest.approx(whole["measured"]["validation_loss"], rel=1e-5)
    [found] = evaluate([asked], inputs)
    assert found["scores"] == scored["scores"] and found["loss"] == pytest.approx(scored["loss"], rel=1e-5)
    assert "out of device memory in evaluation (CUDA out of memory. Tried to allocate 2.00 GiB.); again with 8 " \
           "examples at a time" in caplog.text  # fmt: skip


def test_one_example_that_is_too_large_is_no_matter_of_the_training_s_batches(inputs, monkeypatch):
    taken = steps_taken(monkeypatch)
    answered(0, monkeypatch)
    [record] = train([spec("full")], inputs)
    assert record["status"] == "failed" and len(taken) == 6
    assert record["reason"].endswith("by one example alone; lower the dataset's max_length, target_length or beams.")


def test_a_run_that_cannot_be_scored_keeps_no_other_from_it(inputs):
    asked = [spec(seed=seed) for seed in (0, 1, 2)]
    train(asked, inputs)
    flip(inputs.state / asked[1].path / "trained.safetensors")
    with pytest.raises(StudyError, match=rf"^1 of 3 runs could not be scored on test: {asked[1].path}: .*: damaged"):
        evaluate(asked, inputs)
    assert [(inputs.output / run.path / "test.json").exists() for run in asked] == [True, False, True]


def test_scoring_that_is_asked_to_stop_stops(inputs, monkeypatch):
    asked = [spec(seed=seed) for seed in (0, 1)]
    train(asked, inputs)
    told = []

    def held(path, what):
        told.append(what)
        raise stopping.Stopped(f"{what}: SIGTERM while process 4711 was at it.")

    monkeypatch.setattr(locks, "held", held)
    with pytest.raises(stopping.Stopped, match="SIGTERM while process 4711"):
        evaluate(asked, inputs)
    assert len(told) == 1


def test_memory_that_is_really_full_is_tried_again(inputs):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    own = dataclasses.replace(inputs, device=torch.device("cuda"))
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(24e6 / total)
    try:
        record = train([spec("full", batch_size=64, micro_batch_size=64)], own)[0]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert record["status"] == "finished", record["reason"]


def test_a_run_that_is_asked_to_stop_says_so_in_a_line_and_loses_no_step(inputs, monkeypatch, tmp_path):
    asked = spec("full", epochs=4)
    [whole] = train([asked], dataclasses.replace(inputs, state=tmp_path / "s2", output=tmp_path / "r2"))
    monkeypatch.setattr(stopping, "_asked", [])
    taken, step = [], training.Run._step

    def stopped(self, *rest):
        taken.append(1)
        if len(taken) == 15:  # within the third epoch of six steps
            stopping._ask(signal.SIGTERM, None)
        return step(self, *rest)

    monkeypatch.setattr(training.Run, "_step", stopped)
    rarely = dataclasses.replace(inputs, checkpoint_seconds=1000)
    with pytest.raises(
        stopping.Stopped, match="SIGTERM after step 15; the next start goes on from the last checkpoint"
    ):
        train([asked], rarely)
    stopping._asked.clear()
    [record] = train([asked], rarely)
    assert len(taken) == 24
    assert record["measured"]["validation_loss"] == whole["measured"]["validation_loss"]
    history = [pd.read_csv(root / asked.path / "history.csv") for root in (inputs.output, tmp_path / "r2")]
    assert history[0].filter(regex="loss|score").equals(history[1].filter(regex="loss|score"))


def test_what_a_killed_process_left_half_written_goes(inputs):
    folder = inputs.state / spec().path
    folder.mkdir(parents=True)
    half, other = folder / ".checkpoint.pt.n7-4711.part", folder.parent / "seed-1" / ".checkpoint.pt.n7-4712.part"
    for path in (half, other):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    train([spec()], inputs)
    assert not half.exists() and other.exists(), "the other run may have a writer"


def test_two_processes_on_one_run_train_it_once(inputs, monkeypatch):
    taken, results = steps_taken(monkeypatch), []
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.05)
    threads = [threading.Thread(target=lambda: results.append(train([spec()], inputs)[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 12
    assert results[0] == results[1]
