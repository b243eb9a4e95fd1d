import copy
import json

import own_method
import pytest
import yaml
from conftest import ROOT

from peftstudy import checking, sources, specs, strict_yaml, study
from peftstudy.configuration import from_config, resolved
from peftstudy.evidence.places import backbones

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def changed(**blocks):
    return from_config(copy.deepcopy(CONFIG) | blocks)


def test_every_run_is_in_exactly_one_pack():
    default = from_config(CONFIG)
    paths = [run.path for run in default.runs()]
    assert len(paths) == len(set(paths)) > 100
    packed = [path for pack in default.packs() for path in pack.files("", "record.json")]
    assert len(packed) == len(paths)
    names = [pack.name for pack in default.packs()]
    assert len(names) == len(set(names))


def test_packs_travel_as_json():
    for pack in from_config(CONFIG).packs():
        assert tuple(study.Pack.runs_from_json(pack.json)) == pack.runs


def test_specifications_travel_as_json():
    default = from_config(CONFIG)
    for spec in [*default.sources.values(), *default.datasets.values(), *default.backbones.values()]:
        assert specs.parse(type(spec), specs.to_json(spec)) == spec


def test_a_run_is_the_same_after_its_record():
    run = changed(
        methods={"lora": {"rank": 4, "targets": ["query"], "learning_rate": [1e-4, 1e-3]}}, reference="lora"
    ).runs()[0]
    assert run.options == (("rank", 4), ("targets", ("query",)))
    assert specs.RunSpec.from_dict(json.loads(json.dumps(run.as_dict()))) == run


def test_a_main_metric_of_its_own_is_another_request_and_the_task_s_own_is_none():
    block = CONFIG["datasets"]["libraries"]
    plain, named, other = (
        changed(datasets={"libraries": block | more}) for more in ({}, {"metric": "accuracy"}, {"metric": "mcc"})
    )
    assert plain.runs() == named.runs() and "metric" not in plain.runs()[0].as_dict()
    run = other.runs()[0]
    assert run.as_dict() == plain.runs()[0].as_dict() | {"metric": "mcc"}
    assert specs.RunSpec.from_dict(run.as_dict()) == run != plain.runs()[0]
    assert [study.metric("libraries") for study in (plain, named, other)] == [None, None, "mcc"]


def test_random_backbones_run_where_the_config_says():
    cells = {(b.name, split): [m.name for m in methods] for _, split, b, methods in from_config(CONFIG).cells()}
    assert cells[("bert-random", "90-10")] == ["full", "head"]
    assert ("bert-random", "30-70") not in cells


def test_a_dataset_may_narrow_the_grid_and_have_a_budget_of_its_own():
    plain = CONFIG["datasets"]["libraries"]
    own = {**plain, "splits": ["30-70"], "methods": ["lora", "full"], "training": {"seconds": 5}}
    blocks = copy.deepcopy(CONFIG["backbones"])
    blocks["roberta-tiny"]["datasets"] = ["libraries"]
    study = changed(datasets={"libraries": plain, "own": own}, backbones=blocks)
    cells = {(d.name, split, b.name): [m.name for m in methods] for d, split, b, methods in study.cells()}
    assert ("own", "90-10", "bert-tiny") not in cells and ("own", "30-70", "roberta-tiny") not in cells
    assert (
        set(cells[("own", "30-70", "bert-tiny")]) == {"full", "lora"} < set(cells[("libraries", "30-70", "bert-tiny")])
    )
    assert backbones(study, "30-70", "own") == ["bert-tiny"] and backbones(study, "90-10", "own") == []
    budgets = {run.dataset: (run.training.seconds, run.training.steps) for run in study.runs()}
    assert budgets == {"libraries": (None, None), "own": (5, None)}
    assert set(changed().runs()) >= {run for run in study.runs() if run.backbone == "roberta-tiny"}
    asked = [specs.to_json(study.datasets[name].without_length()).replace(name, "") for name in ("libraries", "own")]
    assert asked[0].replace("docstrings", "") == asked[1].replace("docstrings", ""), "the same examples"


def test_a_budget_of_its_own_takes_the_place_of_the_study_s():
    plain = CONFIG["datasets"]["libraries"]
    study = changed(training={"steps": 7}, datasets={"a": plain, "b": {**plain, "training": {"epochs": 2}}})
    assert [(study.budget(name).steps, study.budget(name).epochs) for name in "ab"] == [(7, 3), (None, 2)]


def test_what_does_not_decide_the_weights_is_not_asked_of_a_backbone():
    backbone = from_config(CONFIG).backbones["bert-random"]
    assert backbone.methods and backbone.splits
    assert specs.to_json(backbone.without_grid()) == specs.to_json(specs.Backbone("bert-random", random="bert-tiny"))


def test_a_backbone_may_be_given_shorter_texts():
    blocks = copy.deepcopy(CONFIG["backbones"])
    blocks["roberta-tiny"]["max_length"] = 32
    study = changed(backbones=blocks)
    assert [study.max_length("libraries", name) for name in ("bert-tiny", "roberta-tiny")] == [64, 32]
    without = from_config(CONFIG).backbones["roberta-tiny"]
    assert specs.to_json(study.backbones["roberta-tiny"].without_grid()) == specs.to_json(without.without_grid())


def test_what_has_its_default_is_not_told():
    """A setting that a later version adds changes the parameters of no job that does without it."""
    assert json.loads(specs.to_json(specs.Backbone("mine", folder="here"))) == {"name": "mine", "folder": "here"}


def test_the_corpus_leaves_out_examples_and_columns():
    blocks = copy.deepcopy(CONFIG["backbones"])
    blocks["bert-tiny"]["pretrain"]["exclude"] = ["libraries", "docstrings:summary"]
    found = changed(backbones=blocks).exclusions("bert-tiny")
    assert found == [
        ("results/default/splits/libraries/examples.parquet", "text", "summary_masked"),
        ("results/default/splits/libraries/examples.parquet", "id", "id"),
        ("results/default/sources/docstrings/table.parquet", "summary", "summary"),
    ]


def test_the_corpus_leaves_out_both_texts_of_a_pair():
    offline = from_config(yaml.safe_load((ROOT / "studies" / "tasks-offline.yaml").read_text()))
    found = [(own, path) for path, column, own in offline.exclusions("bert-tiny") if column == "text_pair"]
    root = "results/tasks-offline/splits"
    assert found == [("body", f"{root}/pairs/examples.parquet"), ("docstring", f"{root}/questions/examples.parquet")]


@pytest.mark.parametrize("path", ["~/films", "$DATA/films"])
def test_a_path_that_is_expanded_starts_where_it_says(path):
    source = {"kind": "files", "path": path, "files": {"all": "a.csv"}}
    study = changed(folder="data", sources={"docstrings": source})
    assert dict(study.sources["docstrings"].options)["path"] == path


def test_a_relative_path_starts_at_the_folder(tmp_path):
    (tmp_path / "imdb").mkdir()
    (tmp_path / "imdb" / "train.jsonl.gz").touch()
    config = yaml.safe_load((ROOT / "studies" / "imdb-local.yaml").read_text()) | {"folder": str(tmp_path)}
    source = checking.check(config, "imdb-local.yaml").sources["imdb"]
    assert source.inputs() == [str(tmp_path / "imdb" / "train.jsonl.gz")], "those that are there"


def test_a_model_s_folder_is_watched(tmp_path, monkeypatch):
    for name in ("config.json", "model.safetensors", "vocab.txt", "pytorch_model.bin"):
        (tmp_path / name).touch()
    monkeypatch.setenv("MODELS", str(tmp_path.parent))
    backbone = specs.Backbone("b", folder=f"$MODELS/{tmp_path.name}")
    assert [path.rpartition("/")[2] for path in backbone.inputs()] == ["config.json", "model.safetensors", "vocab.txt"]
    assert specs.Backbone("b", folder=str(tmp_path / "gone")).inputs() == []
    assert not any(backbone.inputs() for backbone in from_config(CONFIG).backbones.values())


def test_a_resolved_configuration_keeps_what_a_method_s_file_was_known_by(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(own_method.TEXT)
    config = CONFIG | {"methods": CONFIG["methods"] | {"full": None, "own": {"method": str(own)}}}
    kept, before = resolved(config), from_config(config).methods["own"].code
    own.write_text(f"{own_method.TEXT}\n# One line more.\n")
    assert from_config(kept).methods["own"].code == before != from_config(config).methods["own"].code
    checking.check(kept, "study.json")
    assert resolved(CONFIG) == CONFIG


def test_the_files_that_are_read_are_those_that_are_watched(tmp_path):
    for name in ("one.csv", "deep/two.csv", "odd[1].csv", "other.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text\n")
    names = ["*.csv", "odd[1].csv"]
    source = specs.Source("s", "files", specs.freeze({"path": str(tmp_path), "files": {"all": names}}))
    read = sources.named_files("s", tmp_path, names)
    assert sorted(set(source.inputs())) == sorted(set(map(str, read)))
    assert {path.name for path in read} == {"one.csv", "two.csv", "odd[1].csv"}


@pytest.mark.parametrize(
    "path", [ROOT / "config.yaml", *sorted((ROOT / "studies").glob("*.yaml"))], ids=lambda p: p.stem
)
def test_every_study_is_in_order(path):
    config = strict_yaml.load(path)
    if "folder" in config:
        config["folder"] = "data"
    checked = checking.check(config, path.name)
    lengths = {
        len(run.training.learning_rate) for run in checked.runs() if isinstance(run.training.learning_rate, tuple)
    }
    assert len(lengths) <= 1, "every method searches the same number of rates"
