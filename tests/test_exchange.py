"""Results go out in the form of PEFT's method comparison, and come in from it, old files and new ones."""

import copy
import json

import pandas as pd
import pytest
from conftest import ROOT

from peftstudy import __main__, archive, commands, configuration, exchange, files, metrics, statistics
from peftstudy.errors import StudyError
from peftstudy.evidence import summaries

LISTED = {
    "run_info": {"created_at", "total_time", "experiment_name", "peft_branch", "train_config", "peft_config",
                 "error_msg"},
    "train_info": {"accelerator_memory_reserved_avg", "accelerator_memory_max", "accelerator_memory_reserved_99th",
                   "train_time", "file_size", "num_trainable_params", "num_total_params", "status", "metrics"},
    "meta_info": {"model_info", "dataset_info", "package_info", "system_info", "pytorch_info"},
}  # fmt: skip
CONFIGURED = {"model_id", "dtype", "max_seq_length", "batch_size", "batch_size_eval", "max_steps", "eval_steps",
              "compile", "query_template", "seed", "grad_norm_clip", "optimizer_type", "optimizer_kwargs",
              "lr_scheduler", "use_amp", "autocast_adapter_dtype", "generation_kwargs",
              "attn_implementation"}  # fmt: skip
PACKAGES = {f"{name}-{what}" for name in ("transformers", "peft", "datasets", "bitsandbytes", "torch")
            for what in ("version", "commit-hash")}  # fmt: skip
"""The keys of lora--llama-3.2-3B-rank32.json and its neighbours in huggingface/peft, June 2025 and later."""
WHOLE_NUMBERS = ("accelerator_memory_reserved_avg", "accelerator_memory_max", "accelerator_memory_reserved_99th",
                 "file_size")  # fmt: skip
"""What that repository's own reader (method_comparison/processing.py) takes as whole numbers."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The archived study imdb-local, unpacked, with its metrics."""
    place = tmp_path_factory.mktemp("imdb")
    folder = ROOT / "results/archive/imdb-local"
    study = configuration.from_config(archive.configuration(folder))
    archive.unpack(folder, study, place)
    metrics.write(study, place, place / "metrics")
    runs = statistics.read(place / "metrics/runs.csv")
    statistics.write_csv(place / "statistics/scores.csv", summaries.summarise(runs))
    statistics.write_csv(place / "statistics/differences.csv", summaries.differences(runs, "full", {}))
    return place


@pytest.fixture(scope="module")
def exported(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "peft"
    assert __main__.main(["export", "--results", str(results), "--form", "peft", "--output", str(folder)]) == 0
    return folder


def test_every_file_has_the_published_form(exported):
    paths = sorted(exported.iterdir())
    assert len(paths) == 60
    for path in paths:
        content = json.loads(path.read_text())
        for block, keys in LISTED.items():
            assert keys <= set(content[block])
        assert set(content["run_info"]["train_config"]) >= CONFIGURED
        assert set(content["meta_info"]["package_info"]) == PACKAGES
        assert path.stem == content["run_info"]["experiment_name"].replace("/", "--")
        assert content["run_info"]["experiment_name"].count("/") == 1
        assert all(type(content["train_info"][key]) is int for key in WHOLE_NUMBERS)
        last = content["train_info"]["metrics"][-1]
        assert set(last) == {
            "step", "valid accuracy", "test accuracy", "train loss", "train samples", "train total tokens",
        }  # fmt: skip


def test_full_fine_tuning_has_no_peft_config_and_the_others_name_their_type(exported):
    types = {}
    for path in exported.iterdir():
        config = json.loads(path.read_text())["run_info"]["peft_config"]
        types.setdefault(path.name.split("--")[0], set()).add(config and config["peft_type"])
    assert types == {"full-finetuning": {None}, "bitfit": {"BITFIT"}, "embeddings": {"EMBEDDINGS"},
                     "encoder": {"ENCODER"}, "prompt": {"PROMPT_TUNING"}}  # fmt: skip


def test_what_goes_out_comes_in_again(exported, results, tmp_path):
    assert __main__.main(["import", str(exported), "--output", str(tmp_path / "in.parquet")]) == 0
    found = pd.read_parquet(tmp_path / "in.parquet")
    assert list(found) == list(exchange.IMPORTED) and set(found.status) == {"finished"}
    runs = statistics.read(results / "metrics/runs.csv")
    runs["experiment"] = [exchange.name_of(spec) for spec in configuration.from_config(
        files.read_json(results / "study.json")).runs()]  # fmt: skip
    both = found.merge(runs, on="experiment", suffixes=("", "_own"))
    assert len(both) == 60 and (both.method == both.method_own).all()
    for column in ("test_score", "learning_rate", "steps", "stored_bytes", "training_seconds", "seed"):
        assert both[column].to_numpy() == pytest.approx(both[f"{column}_own"].to_numpy())
    assert (both.trained_parameters == both.method_parameters + both.head_parameters).all()


def test_the_score_on_validation_is_that_of_the_chosen_epoch(tmp_path):
    folder, results = ROOT / "results/archive/libraries-search", tmp_path / "results"
    study = configuration.from_config(archive.configuration(folder))
    archive.unpack(folder, study, results)
    metrics.write(study, results, results / "metrics")
    exchange.export(study, results, tmp_path / "out")
    found = exchange.read(tmp_path / "out").set_index("experiment").validation_score
    runs = statistics.read(results / "metrics/runs.csv").set_axis(map(exchange.name_of, study.runs()))
    assert found.to_dict() == pytest.approx(runs.validation_score.to_dict())
    assert (runs.chosen_epoch < runs.epochs).any()


PUBLISHED = {
    "run_info": {
        "created_at": "2025-06-19T19:15:35+00:00", "total_time": 20.5, "experiment_name": "lora/a-model-rank32",
        "peft_branch": "main", "error_msg": "", "peft_config": {"peft_type": "LORA", "r": 32},
        "train_config": {"model_id": "someone/a-model", "dtype": "bfloat16", "max_steps": 500, "seed": 0,
                         "optimizer_kwargs": {"lr": 1e-4, "weight_decay": 0.1}},
    },
    "train_info": {
        "cuda_memory_reserved_avg": 10, "cuda_memory_max": 30, "cuda_memory_reserved_99th": 20, "train_time": 18.2,
        "file_size": 36, "num_trainable_params": 9, "num_total_params": 32, "status": "success",
        "metrics": [{"step": 250, "valid accuracy": 0.34, "train loss": 0.98},
                    {"step": 500, "valid accuracy": 0.44, "train loss": 0.71},
                    {"step": 500, "test accuracy": 0.48, "train loss": 0.6, "train total tokens": 4198,
                     "forgetting": 0.08}],
    },
    "meta_info": {
        "model_info": {"sha": "1", "created_at": "2024"},
        "dataset_info": {"metamath": {"sha": "a"}, "gsm8k": {"sha": "e"}},
        "package_info": {"transformers-version": "4.52.4", "peft-version": "0.15.2", "torch-version": "2.7.1"},
        "system_info": {"system": "Linux", "gpu": "A GPU"},
    },
}  # fmt: skip
"""A file as the older ones are, with numbers of our own."""


def written(folder, content):
    files.write_json(folder / "lora--a-model-rank32.json", content)
    return folder


def test_older_and_newer_published_files_are_read_alike(tmp_path):
    newer = copy.deepcopy(PUBLISHED)
    memory = {key.replace("cuda", "accelerator"): value for key, value in newer["train_info"].items()}
    newer["train_info"], newer["meta_info"]["system_info"] = memory, {"accelerator": "A GPU"}
    old, new = (exchange.read(written(tmp_path / name, value)).iloc[0] for name, value in
                (("old", PUBLISHED), ("new", newer)))  # fmt: skip
    pd.testing.assert_series_equal(old, new)
    assert (old.method, old.backbone, old.dataset) == ("lora", "someone/a-model", "gsm8k+metamath")
    assert (old.test_score, old.validation_score, old.metric) == (0.48, 0.44, "accuracy")
    assert (old.peak_device_memory_bytes, old.device, old.learning_rate) == (30, "A GPU", 1e-4)


def test_what_is_not_of_the_form_is_named(tmp_path):
    short = copy.deepcopy(PUBLISHED)
    del short["run_info"]["train_config"]
    with pytest.raises(StudyError, match=r"rank32\.json: not of the form .* it lacks 'train_config'\."):
        exchange.read(written(tmp_path / "short", short))
    null = copy.deepcopy(PUBLISHED)
    null["run_info"]["train_config"]["optimizer_kwargs"] = None
    with pytest.raises(StudyError, match=r"rank32\.json: not of the form "):
        exchange.read(written(tmp_path / "null", null))
    with pytest.raises(StudyError, match="no JSON files"):
        exchange.read(tmp_path / "nowhere")
    with pytest.raises(StudyError, match=r"ends in \.csv or \.parquet"):
        exchange.write_table(pd.DataFrame(), tmp_path / "table.xlsx")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_tables_go_out_for_other_programs(results, tmp_path, form):
    assert __main__.main(["export", "--results", str(results), "--form", form, "--output", str(tmp_path / "out")]) == 0
    read = pd.read_csv if form == "csv" else pd.read_parquet
    found = {path.stem: read(path) for path in (tmp_path / "out").iterdir()}
    assert set(found) == {"runs", "epochs", "scores", "differences"} and len(found["runs"]) == 60
    assert set(found["runs"].options[found["runs"].method == "prompt"]) == {'{"tokens": 20}'}
    (tmp_path / "out/thesis.tex").write_text("mine")
    with pytest.raises(StudyError, match=r"out: is there already; name a new folder\.$"):
        commands.export(results, form, tmp_path / "out")
    assert (tmp_path / "out/thesis.tex").exists()


def test_a_study_without_runs_exports_nothing(results, tmp_path):
    study = configuration.from_config(files.read_json(results / "study.json"))
    files.write_text(tmp_path / "metrics/backbones.csv", "backbone,origin,revision\n")
    with pytest.raises(StudyError, match="no run of the study has a record to export"):
        exchange.export(study, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_ways_of_full_fine_tuning_are_two_experiments():
    config = archive.configuration(ROOT / "results/archive/imdb-local")
    config["methods"]["full-low"] = {"method": "full", "learning_rate": 1e-5}
    found = [exchange.name_of(spec) for spec in configuration.from_config(config).runs()]
    assert len(set(found)) == len(found) and any(name.startswith("full-low/") for name in found)
