"""Each thing that can be wrong in a configuration has its sentence, before any job starts."""

import dataclasses
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from peftstudy import checking, methods, schema
from peftstudy.checking import check
from peftstudy.errors import NEAREST, StudyError
from peftstudy.specs import Backbone, Dataset, Pretraining, Search, Training
from peftstudy.strict_yaml import load
from peftstudy.study import Study

ROOT = Path(__file__).resolve().parents[1]

BASE = yaml.safe_load("""
study: a-study
title: A title
question: A question?
sources:
  docs: {kind: docstrings}
  reviews: {kind: files, path: data, files: {all: [reviews.csv]}}
datasets:
  sentiment: {source: reviews, task: classification, text: text, label: label, labels: [neg, pos]}
splits: [90-10, size-500]
backbones:
  tiny:
    pretrain:
      family: bert
      shape: {hidden_size: 128, num_attention_heads: 2}
      tokenizer: {vocabulary: 1000}
      corpus: {docs: docstring}
      exclude: [sentiment]
      steps: 10
  untrained: {random: tiny, methods: [full], splits: [90-10]}
methods:
  full: {learning_rate: 0.001}
  lora: {rank: 8}
reference: full
seeds: [0, 1]
training: {epochs: 2}
""")

LEFT_OUT = object()
SENTENCES = yaml.safe_load((ROOT / "tests" / "checking.yaml").read_text())


def changed(*changes):
    config = deepcopy(BASE)
    for path, value in changes:
        *blocks, key = path.split(".")
        block = config
        for name in blocks:
            block = block[name]
        if value is LEFT_OUT:
            del block[key]
        else:
            block[int(key) if key.isdigit() else key] = value
    return config


def shape_keys():
    backbone = yaml.safe_load(schema.SCHEMA.read_text())["properties"]["backbones"]["additionalProperties"]
    return backbone["properties"]["pretrain"]["properties"]["shape"]["properties"]


def known(at: str) -> str:
    """What stands in the code and the schema, not here again."""
    properties = yaml.safe_load(schema.SCHEMA.read_text())["properties"]
    reported = [folder.name for folder in (ROOT / "paper" / "reported").glob("*") if folder.is_dir()]
    names = {
        "KEYS": properties["training"]["properties"] if "training" in at else properties,
        "TASKS": checking.tasks.registered(),
        "SHAPE": shape_keys(),
        "REPORTED": reported,
    }
    for word, values in names.items():
        at = at.replace(f"known: {word}", f"known: {', '.join(sorted(values)) or 'none'}")
    return at.replace("MORE", str(len(checking.methods.registered()) - NEAREST))


def sentence(config) -> str:
    with pytest.raises(StudyError) as error:
        check(config, "c.yaml")
    return str(error.value)


def test_the_base_is_well():
    study = check(BASE, "c.yaml")
    assert len(study.runs()) == 2 * 2 * 2 + 2
    assert study.training.epochs == 2


@pytest.mark.parametrize("case", SENTENCES, ids=lambda case: " ".join(str(case[key]) for key in case if key != "says"))
def test_what_is_wrong_is_said(case):
    change = (case["set"], case["to"]) if "set" in case else (case["leave out"], LEFT_OUT)
    assert sentence(changed(change)) == known(case["says"])


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"seconds": 5, "steps": 3}, "found steps and seconds; want one of them."),
        ({"epochs": 5, "seconds": 3}, "found epochs and seconds; want one of them."),
        ({"seconds": 5, "minimum_steps": 3}, "a budget in seconds has no floor of steps; leave it out."),
    ],
)
def test_a_run_has_one_budget(training, said):
    assert sentence(changed(("training", training))).endswith(said)
    assert check(changed(("training", {"seconds": 2.5})), "c.yaml").training.seconds == 2.5


def test_a_list_of_rates_needs_a_validation_part():
    without = [("validation", 0), ("training.select", "last")]
    assert check(changed(*without), "c.yaml").validation == 0
    rates = ("methods.lora.learning_rate", [0.1, 0.2])
    assert sentence(changed(*without, rates)) == (
        "c.yaml: methods.lora.learning_rate: found a list to search, and validation is 0; give one."
    )
    assert sentence(changed(*without, ("training.learning_rate", [0.1, 0.2]))).startswith("c.yaml: training.learning")
    sampled = ("methods.lora.learning_rate", {"low": 1e-4, "high": 0.1, "trials": 4}), ("search", {"sampler": "tpe"})
    assert "found a list to search" in sentence(changed(*without, *sampled))
    assert check(changed(*sampled), "c.yaml").search.sampler == "tpe"


def posed(**block):
    return changed(("datasets.sentiment", {"source": "reviews", "text": "text", "label": "label", **block}))


def test_the_main_metric_is_one_of_which_more_is_better_up_to_1():
    assert sentence(posed(task="regression", metric="rmse")) == (
        "c.yaml: datasets.sentiment.metric: rmse cannot be the main one, by which runs are chosen: smaller is better; "
        "want one of pearson, spearman."
    )
    assert check(posed(task="regression", metric="spearman"), "c.yaml").metric("sentiment") == "spearman"
    assert check(posed(task="regression", metric="pearson"), "c.yaml").metric("sentiment") is None
    for metric in ("cider", "nist"):
        assert "cannot be the main one" in sentence(posed(task="generation", metric=metric))


def test_f1_is_that_of_two_classes():
    assert check(posed(task="classification", metric="f1", names=["bad", "good"]), "c.yaml")
    assert sentence(posed(task="classification", metric="f1", labels=[0, 1, 2])) == (
        "c.yaml: datasets.sentiment.metric: f1 is that of the second of two classes, and there are 3 (0, 1, 2); want "
        "another (f1_macro is the mean over all)."
    )


def test_a_prompt_starts_as_class_names_where_there_are_classes():
    prompt = ("methods.prompt", {"initial": "labels"})
    assert check(changed(prompt), "c.yaml")
    config = posed(task="regression") | {"methods": changed(prompt)["methods"]}
    assert sentence(config) == (
        "c.yaml: methods.prompt: prompt cannot do regression (datasets.sentiment): it has no classes, whose names the "
        "prompt could start as (initial: labels)."
    )
    config["methods"]["prompt"] = {"method": "combined", "parts": {"prompt": {"initial": "labels"}, "bitfit": {}}}
    assert "no classes, whose names the prompt could start as" in sentence(config)
    config["methods"]["prompt"] = {"initial": "words"}
    assert check(config, "c.yaml")


def test_names_are_of_classes():
    said = sentence(posed(task="regression", names=["low", "high"]))
    assert said == "c.yaml: datasets.sentiment.names: means nothing to regression; leave it out."


def test_a_method_that_reads_whole_weights_has_one_device():
    on_two = [("backbones.tiny.devices", 2), ("methods.adalora", {})]
    assert check(changed(on_two[0]), "c.yaml").backbones["tiny"].devices == 2
    assert sentence(changed(*on_two)).startswith("c.yaml: backbones.tiny.devices: found 2, and adalora reads whole")


def test_the_first_place_is_named_first():
    wrong = changed(("seeds", 3), ("title", 4), ("datasets.sentiment.max_length", 1))
    assert sentence(wrong).startswith("c.yaml: title:")


def test_a_method_without_options_needs_no_block():
    assert check(changed(("methods.full", None)), "c.yaml").methods["full"].options == ()


def test_checking_changes_nothing():
    config = changed(("methods.full", None))
    check(config, "c.yaml")
    assert config == changed(("methods.full", None))


def test_every_pattern_of_the_schema_has_its_words():
    def patterns(value):
        if isinstance(value, dict):
            yield from [value["pattern"]] if isinstance(value.get("pattern"), str) else []
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from patterns(item)

    assert set(patterns(yaml.safe_load(schema.SCHEMA.read_text()))) == set(schema.PATTERNS)


def test_every_shape_key_is_one_of_both_families():
    from transformers import BertConfig, RobertaConfig

    for family in (BertConfig, RobertaConfig):
        assert set(shape_keys()) <= family().to_dict().keys()


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("config.yaml"), *ROOT.glob("studies/*.yaml")]), ids=lambda p: p.name
)
def test_the_studies_at_hand_are_well(path):
    config = load(path)
    if "folder" in config:
        assert config["folder"] is None, "where a user's files are has no default"
        config["folder"] = "data"
    check(config, path.name)


TEXTS = [
    ("", "found nothing, want a block of keys."),
    ("- a\n- b\n", "found a list, want a block of keys."),
    ("a: 1\n\tb: 2\n", "line 2: found a tab; YAML is indented with spaces."),
    ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands in line 1 already."),
    ("m:\n  lora:\n    rank: 1\n    rank: 2\n", "line 4: the key 'rank' stands in line 3 already."),
    ("a: [1, 2\nb: 3\n", "line 2: not YAML (expected ',' or ']', but got ':')."),
    ("a: *b\n", "line 1: not YAML (found undefined alias 'b')."),
    (
        "a: !!binary2 x\n",
        "line 1: not YAML (could not determine a constructor for the tag 'tag:yaml.org,2002:binary2').",
    ),
]


@pytest.mark.parametrize("text, expected", TEXTS, ids=[repr(text) for text, _ in TEXTS])
def test_what_is_wrong_with_the_file_is_said(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(text)
    with pytest.raises(StudyError) as error:
        load("c.yaml")
    assert str(error.value).removeprefix("c.yaml: ") == expected


def test_a_missing_and_an_unreadable_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match=r"^c\.yaml: no such file\.$"):
        load("c.yaml")
    Path("c.yaml").write_bytes(b"title: \xff")
    with pytest.raises(StudyError, match=r"^c\.yaml: cannot be read as text"):
        load("c.yaml")


def test_anchors_and_merges_are_no_repetition(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\n")
    assert load(path)["b"] == {"x": 1, "y": 3}


SCHEMA = yaml.safe_load(schema.SCHEMA.read_text(encoding="utf-8"))


def _keys(part, path=()):
    """Yield the schema's keys: path, and what it says of them, what it refers to included."""
    for name, said in part.get("properties", {}).items():
        yield (*path, name), SCHEMA["$defs"].get(said.get("$ref", "").rpartition("/")[2], {}) | said
        yield from _keys(said, (*path, name))
    for inner in (*part.get("oneOf", ()), part.get("additionalProperties"), part.get("items")):
        if isinstance(inner, dict):
            yield from _keys(inner, (*path, "*"))


def test_every_key_is_described():
    keys = [(path, said) for path, said in _keys(SCHEMA) if "shape" not in path[:-1] and "const" not in said]
    keys += [found for name in SCHEMA["$defs"] for found in _keys(SCHEMA["$defs"][name], (name,))]
    assert len(keys) > 100
    assert [".".join(path) for path, said in keys if not said.get("description")] == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [((), Study), (("workflow",), Study), (("training",), Training), (("search",), Search),
     (("datasets", "*"), Dataset), (("backbones", "*"), Backbone), (("backbones", "*", "pretrain"), Pretraining)],
)  # fmt: skip
def test_the_schema_s_defaults_are_those_of_the_code(path, kind):
    """Where nothing is the default, the description says what that means."""
    named = {key[-1]: said.get("default") for key, said in _keys(SCHEMA) if key[:-1] == path}
    coded = {field.name: field.default for field in dataclasses.fields(kind) if field.name in named}
    assert coded and named == dict.fromkeys(named) | {
        name: value for name, value in coded.items() if value not in (None, (), dataclasses.MISSING)
    }


def test_checking_is_quick_to_import():
    script = (
        "import sys, peftstudy.checking\n"
        "print([name for name in ('torch', 'transformers', 'pandas', 'sklearn', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_method_that_cannot_do_a_task_says_why(monkeypatch):
    lora = checking.methods.registered()["lora"]
    monkeypatch.setattr(lora, "not_for", {"classification": "for the sake of the test"})
    with pytest.raises(StudyError) as error:
        check(BASE, "c.yaml")
    assert str(error.value) == (
        "c.yaml: methods.lora: lora cannot do classification (datasets.sentiment): for the sake of the test."
    )


def test_a_combination_cannot_do_what_a_part_cannot():
    """Unlike what has nothing to train by itself, which another part makes up for."""
    config = changed(("backbones.tiny.pretrain.family", "gpt2"), ("backbones.untrained", LEFT_OUT))
    config["methods"]["both"] = {"method": "combined", "parts": {"lora": {}, "infix": {}}}
    with pytest.raises(StudyError, match=r"methods.both: combined cannot do classification .*: infix: it stands"):
        check(config, "c.yaml")
    both = methods.create("combined", {"parts": (("lora", ()), ("density", ()))})
    assert both.cannot("generation") is None and methods.create("density").cannot("generation")
