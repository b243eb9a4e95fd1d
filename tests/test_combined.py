"""Combinations of methods: which cannot be, and that those that can train every part."""

import numpy as np
import own_method
import pytest
import torch
from small_runs import NONE, TRAIN, a_run_of, adapted

from peftstudy import backbones, contract, methods, tokens
from peftstudy.checkpoints import Checkpoints
from peftstudy.errors import StudyError
from peftstudy.methods import create
from peftstudy.methods.combined import Combined
from peftstudy.specs import RunSpec, Search, Training, freeze
from peftstudy.tricks import dropout

OTHERS = ("bart", "gpt2", "llama", "modernbert", "t5")
"""Than BERT: families whose models keep their bodies elsewhere."""


def test_what_decays_is_decided_by_the_part_that_trains_it():
    method = create("combined", {"parts": ["loreft", "dsee", "increlora"]})
    free = {name: method.no_decay(f"bert.{name}") for name in (
        "parametrizations.weight.0.down", "parametrizations.weight.0.left", "parametrizations.weight.original",
        "reft_layer.refts.loreft.units.0.projection.parametrizations.weight.0.base",
    )}  # fmt: skip
    assert list(free.values()) == [False, True, False, True]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (["lora"], "two or more"),
        (["lora", "lroa"], "parts.lroa: unknown method"),
        ({"lora": {"rnak": 4}, "bitfit": {}}, "parts.lora: unknown option 'rnak'.*Did you mean 'rank'"),
        ({"lora": 3, "bitfit": {}}, "parts.lora: found 3, want a block of its options"),
        ({"lora": ["rank"], "bitfit": {}}, "parts.lora: found .*rank.*, want a block of its options"),
        ([1, "lora"], "parts: found 1, want names, or a block"),
        ([[], "lora"], r"parts: found \(\), want names, or a block"),
        (["prefix", "infix"], "infix cannot be combined with prefix: its place is counted in tokens of the text"),
        (["loreft", "prompt"], "loreft cannot be combined with prompt: its place is counted in tokens of the text"),
        (["super-tuning", "boft"], r"super-tuning cannot be combined with boft: they share matrices \(targets\), and"),
        (["super-tuning", "unipelt"], "super-tuning cannot be combined with unipelt: they share matrices"),
        (["hra", "shira"], "hra cannot be combined with shira: they share matrices"),
        (["bitfit", "full"], "bitfit cannot be combined with full: both train some parameters of the backbone"),
        (["layernorm", "embeddings"], "embeddings cannot be combined with layernorm: both train"),
        (["hra", "full"], "hra cannot be combined with full: they share matrices"),
        (["pissa", "boft"], "pissa cannot be combined with boft: they share matrices"),
        ({"density": {}, "shira": {"targets": ["output"]}}, "shira cannot be combined with density: they share"),
        (["adalora", "delora"], "adalora cannot be combined with delora: its allocator would take the other's param"),
        (["glora", "houlsby"], "glora cannot be combined with houlsby: what the adapters library wraps is no plain"),
        (["houlsby", "parallel"], "houlsby cannot be combined with parallel: in the adapters library they share"),
        (["mam", "prefix"], "mam cannot be combined with prefix: no other method of the adapters library can stand"),
        (["p-tuning", "prompt"], "p-tuning cannot be combined with prompt: both put vectors beside the text"),
        (["infix", "prompt"], "infix cannot be combined with prompt"),
        (["lora", "dora"], "dora cannot be combined with lora"),
        (["vera", "randlora"], "share one place"),
        (["unipelt", "prefix"], "unipelt cannot"),
        (["random-share", "lora"], "random-share cannot be combined with lora"),
        (["combined", "lora"], "parts"),
    ],
)
def test_combinations_that_cannot_be(parts, words):
    with pytest.raises(StudyError, match=f"methods.both: .*{words}"):
        create("combined", {"parts": parts}, "methods.both")


def test_a_method_of_your_own_says_where_it_marks_parameters(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(own_method.text("combined-one", 'marks = frozenset({"layers"})'))
    with pytest.raises(StudyError, match="bitfit cannot be combined with combined-one: both train some parameters"):
        create("combined", {"parts": [str(own), "bitfit"]})
    assert create("combined", {"parts": [str(own), "embeddings"]}).problem() is None


@pytest.mark.parametrize("first", ["boft", "ia3", "lora", "pfeiffer", "super-tuning"])
def test_no_part_of_a_combination_is_trained_for_nothing(first, monkeypatch):
    """A part that another's matrices pass by would be counted and stored, and never move."""
    of, really = {}, Combined._steps

    def steps(self, shape):
        for change, names in really(self, shape):
            yield lambda model, change=change, names=names: _noted(change(model), names), names

    def _noted(model, names):
        for parameter in model.parameters():
            if parameter.requires_grad:
                of.setdefault(id(parameter), (names, parameter))
        return model

    monkeypatch.setattr(Combined, "_steps", steps)
    tried = 0
    for other in sorted(methods.registered().keys() - {first, "combined", "adapterfusion", "density"}):
        parts = {name: {"psoft": {"rank": 8}, "oft": {"block": 16}}.get(name, {}) for name in (first, other)}
        try:
            method = create("combined", {"parts": parts})
            case = contract.Case(method, "bert")
            if case.impossible:
                continue
            of.clear()
            made = case.adapted()
        except StudyError:
            continue
        tried += 1
        dropout.stop([made.model])
        torch.manual_seed(3)
        for name, parameter in made.model.named_parameters():
            if name in made.method_names and "parametrizations" not in name:
                parameter.data += 0.02 * torch.randn_like(parameter)
        case.loss(case.engine(made.model.train())).backward()
        alive = {names for names, parameter in of.values() if parameter.grad is not None and parameter.grad.any()}
        assert alive == {names for names, _ in of.values()}, (first, other)
    assert tried > 25


def test_super_tuning_may_stand_beside_boft_on_other_matrices():
    parts = {"super-tuning": {"targets": ["key"]}, "boft": {}}
    assert contract.Case(create("combined", {"parts": parts}), "bert").impossible is None
    said = contract.Case(create("combined", {"parts": parts}), "gpt2").impossible
    assert said.startswith("super-tuning cannot be combined with boft: they share matrices (targets), and it computes")


@pytest.mark.parametrize(
    "parts",
    [["hra", "lora"], ["deft", "lora"], ["super-tuning", "lora"], ["shira", "ia3"], ["frod", "lora"],
     ["shira", "houlsby"], ["loreft", "prefix"], ["embeddings", "encoder"]],
    ids="+".join,
)  # fmt: skip
def test_what_comes_after_one_that_computes_from_the_backbone_s_weights_does_no_harm(parts):
    contract.hold(contract.Case(create("combined", {"parts": parts}), "bert"))


def test_a_part_without_options_may_stand_without_a_block():
    assert create("combined", {"parts": {"lora": None, "bitfit": {}}}).methods == create("combined").methods[::1]


def test_a_combination_that_trains_one_thing_twice_is_refused(bert):
    with pytest.raises(StudyError, match="bitfit cannot be combined with encoder: both train"):
        adapted(bert, "combined", {"parts": ["encoder", "bitfit"]})


@pytest.mark.parametrize(
    "parts",
    [["lora", "ia3"], ["prompt", "lora", "bitfit"], ["houlsby", "prefix", "lora"], ["vera", "lora"], ["full", "lora"]],
    ids="+".join,
)
def test_combinations_train_every_part(parts, bert, data):
    run = a_run_of(bert, "combined", {"parts": parts})
    shape = backbones.read_shape(bert)
    before = {key: value.detach().clone() for key, value in run.model.named_parameters()}
    run.fit(data, TRAIN, NONE, Checkpoints())
    moved = {key for key, value in run.model.named_parameters() if not torch.equal(value, before[key])}
    free = {key for key, value in run.model.named_parameters() if value.requires_grad}
    assert moved == free
    alone = [adapted(bert, part)[1].method_parameters for part in parts]
    assert create("combined", {"parts": parts}).count(shape) == sum(alone)


def a_run_on(family, parts, make_backbone, make_tokens):
    run = a_run_of(make_backbone(family), "combined", {"parts": parts})
    run.fit(tokens.load(make_tokens(family)), TRAIN, NONE, Checkpoints())
    return run


@pytest.mark.parametrize("family", OTHERS)
def test_parts_that_remember_do_so_on_every_family(family, make_backbone, make_tokens):
    run = a_run_on(family, {"increlora": {"rank": 2, "largest": 4}, "layernorm": {}}, make_backbone, make_tokens)
    parts = run.model.growth.parts
    assert sum(part.rank for part in parts) == 2 * len(parts)
    run = a_run_on(family, {"adalora": {"every": 1}, "layernorm": {}}, make_backbone, make_tokens)
    values = torch.stack([p for name, p in run.model.named_parameters() if "lora_E" in name])
    assert int((values != 0).sum()) == 8 * len(values)


@pytest.mark.parametrize("family", OTHERS)
def test_the_density_is_a_part_on_every_family(family, make_backbone, make_tokens):
    run = a_run_on(family, ["density", "lora"], make_backbone, make_tokens)
    run.model.eval()
    run.engine.logits(tokens.load(make_tokens(family)), TRAIN[:8])
    assert run.method.penalty(run.model) is None, "counted in evaluation"
    run.model.train()
    run.engine.logits(tokens.load(make_tokens(family)), TRAIN[:8])
    assert 0 < float(run.method.penalty(run.model).detach()) <= (2 if family in ("bart", "t5") else 1)


@pytest.mark.parametrize("backbone", ["bart", "t5"])
@pytest.mark.parametrize("of", ["classification", "generation"])
def test_the_density_of_a_pair_of_texts_is_the_mean_of_theirs(backbone, of):
    """Padding counts in neither stack."""
    case = contract.Case(create("combined", {"parts": {"density": {"epsilon": 0.1}, "lora": {}}}), backbone, of)
    model = case.adapted().model.train()
    dropout.stop([model])
    engine = case.engine(model)

    def density(examples):
        case.task.logits(engine, case.data, examples)
        return float(case.method.penalty(model).detach())

    pair = case.batch[[0, -1]]
    apart = [density(pair[:1]), density(pair[1:])]
    assert density(pair) == pytest.approx(np.mean(apart), rel=1e-4) and apart[0] != pytest.approx(apart[1], rel=1e-3)


def test_a_combination_survives_its_specification():
    options = {"parts": {"lora": {"rank": 4}, "bitfit": {}}}
    spec = RunSpec("d", "s", "b", "both", 0, "classification", "combined", freeze(options), Training(), Search())
    again = RunSpec.from_dict(spec.as_dict())
    assert again == spec
    method = create("combined", dict(again.options))
    assert [part.name for part in method.methods] == ["bitfit", "lora"] and method.methods[1].rank == 4
