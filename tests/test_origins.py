"""Runs that start from other runs: what they are asked, in which order they come, and what they take over."""

import copy
import dataclasses
import json

import pytest
import torch
import yaml
from batches import batch, logits
from conftest import ROOT
from safetensors.torch import load_file
from test_runs import PARTS, write_parts

from peftstudy import building, checking, contract, evaluation, files, methods, origins, records, runs, tokens
from peftstudy.configuration import from_config
from peftstudy.errors import StudyError
from peftstudy.methods.adapterfusion import FUSED
from peftstudy.records import Place
from peftstudy.specs import RunSpec, Search, Training
from peftstudy.study import Pack

DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
LIBRARIES = DEFAULT["datasets"]["libraries"]
CONFIG = DEFAULT | {
    "sources": {
        "docstrings": {"kind": "docstrings"},
        **{name: {"kind": "files", "path": name, "files": {"all": "all.csv"}} for name in ("one", "two", "three")},
    },
    "datasets": {name: LIBRARIES | {"source": name} for name in ("one", "two", "three")},
    "methods": {"fusion": {"method": "adapterfusion", "of": "pfeiffer", "trained_on": ["one", "two"]},
                "pfeiffer": {"size": 4}, "full": {}},
    "backbones": {"bert-tiny": copy.deepcopy(DEFAULT["backbones"]["bert-tiny"]) | {}}, "splits": ["90-10"],
    "claims": [], "seeds": [0, 1],
}  # fmt: skip
CONFIG["backbones"]["bert-tiny"]["pretrain"]["exclude"] = ["one"]


def changed(**blocks):
    return copy.deepcopy(CONFIG) | blocks


def fusion(**options):
    return CONFIG["methods"] | {"fusion": CONFIG["methods"]["fusion"] | options}


def test_a_run_starts_from_those_of_its_split_backbone_and_seed():
    study = from_config(CONFIG)
    found = {run.path: run for run in study.runs()}
    run = found["three/90-10/bert-tiny/fusion/seed-1"]
    wanted = [found[f"{name}/90-10/bert-tiny/pfeiffer/seed-1"] for name in ("one", "two")]
    assert list(run.origins) == wanted and run.depth == 1
    assert RunSpec.from_dict(json.loads(json.dumps(run.as_dict()))) == run
    assert "origins" not in wanted[0].as_dict(), "records of runs that start from a backbone are as they were"
    everything = from_config(changed(methods=fusion(trained_on=[]))).runs()
    assert {origin.dataset for run in everything for origin in run.origins} == {"one", "two", "three"}


def test_what_its_origins_are_asked_is_asked_of_the_run():
    key = {}
    for size in (4, 8):
        study = from_config(changed(methods=CONFIG["methods"] | {"pfeiffer": {"size": size}}))
        [run] = [run for run in study.runs() if run.path == "three/90-10/bert-tiny/fusion/seed-0"]
        key[size] = records.run_key(run, {})
    assert key[4] != key[8]


def test_packs_wait_for_those_that_they_start_from():
    study = from_config(changed(workflow={"methods_per_job": 2}))
    place = {run: pack.name for pack in study.packs() for run in pack.runs}
    assert len(place) == len(study.runs()) == 3 * 3 * 2
    for pack in study.packs():
        assert tuple(Pack.runs_from_json(pack.json)) == pack.runs
        assert len(json.loads(pack.json)) == len({run.method for run in pack.runs}), "each cell once, with its seeds"
        before = {origin for run in pack.runs for origin in run.origins}
        assert not before & set(pack.runs)
        assert sorted(pack.origins("runs", "record.json")) == sorted(f"runs/{run.path}/record.json" for run in before)
        assert all(not run.origins for run in before), "no pack waits for one that waits itself"
    kept = {pack.name: pack.methods_among(study.read_by_others()) for pack in study.packs()}
    assert kept[place[next(run for run in study.runs() if run.dataset == "one" and run.method == "pfeiffer")]]
    assert not any(names for name, names in kept.items() if name.startswith("three"))
    assert [run.method for run in study.runs()][:6] == ["fusion"] * 2 + ["pfeiffer"] * 2 + ["full"] * 2


def test_the_trials_of_a_cell_start_from_runs_of_one_seed():
    study = from_config(changed(methods=fusion(learning_rate=[1e-3, 1e-2]), search={"seed": 1}))
    [run] = [run for run in study.runs() if run.path == "two/90-10/bert-tiny/fusion/seed-0"]
    assert {read.seed for read in run.reads} == {0, 1} and {origin.seed for origin in run.origins} == {0}


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ({"methods": fusion(of=None)}, "methods.fusion.of: found nothing, want text."),
        ({"methods": CONFIG["methods"] | {"fusion": {"method": "adapterfusion"}}},
         "methods.fusion: the key 'of' is missing: adapterfusion starts from runs of another method of the study, "
         "which it names (of: pfeiffer)."),
        ({"methods": fusion(of="pfeifer")}, "methods.fusion.of: unknown method 'pfeifer' (known: full, fusion, "
         "pfeiffer). Did you mean 'pfeiffer'?"),
        ({"methods": fusion(trained_on=["one", "tow"])}, "methods.fusion.trained_on: unknown dataset 'tow' (known: "
         "one, three, two). Did you mean 'two'?"),
        ({"methods": fusion(trainedon=["one"])}, "methods.fusion: unknown option 'trainedon' (known: "
         "learning_rate, method, of, trained_on). Did you mean 'trained_on'?"),
        ({"methods": fusion(of="full")}, "methods.fusion.of: adapterfusion cannot start from full: its modules are not "
         "those of compacter, houlsby, pfeiffer."),
        ({"methods": fusion(of="fusion")}, "methods.fusion.of: adapterfusion cannot start from fusion: its modules are "
         "not those of compacter, houlsby, pfeiffer."),
        ({"methods": fusion(trained_on=["one"])}, "methods.fusion: starts from runs on 2 datasets or more, and of "
         "pfeiffer on 90-10, bert-tiny there are 1 (one)."),
        ({"datasets": CONFIG["datasets"] | {"two": LIBRARIES | {"source": "two", "methods": ["full"]}}},
         "methods.fusion.trained_on: pfeiffer is not run on two, 90-10, bert-tiny, and fusion on one, 90-10, bert-tiny "
         "starts from that; widen what datasets and backbones name for themselves (methods, splits, datasets), or "
         "narrow fusion by them."),
        ({"datasets": CONFIG["datasets"] | {"two": LIBRARIES | {"source": "one", "data_seed": 1}}},
         "methods.fusion.trained_on: two and one are drawn from one source, so that pfeiffer on two may be trained on "
         "what fusion on one is tested on; leave one of them out."),
        ({"datasets": CONFIG["datasets"] | {"one": LIBRARIES | {"source": "one", "test_from": "three"},
                                            "two": LIBRARIES | {"source": "three"}}},
         "methods.fusion.trained_on: two and three are drawn from one source, so that pfeiffer on two may be trained "
         "on what fusion on one is tested on; leave one of them out."),
        ({"sources": CONFIG["sources"] | {
            name: {"kind": "files", "path": path, "files": {part: "all.csv"}, "columns": ["text", "library"]}
            for name, path, part in (("one", "one", "all"), ("two", "one", "train"))}},
         "methods.fusion.trained_on: two and one are drawn from one source, so that pfeiffer on two may be trained on "
         "what fusion on one is tested on; leave one of them out."),
        ({"sources": CONFIG["sources"] | {
            name: {"kind": "files", "path": path, "files": {"all": file}}
            for name, path, file in (("one", "dd", "a.csv"), ("two", "dd/../dd/b/..", "*.csv"))}},
         "methods.fusion.trained_on: two and one are drawn from one source, so that pfeiffer on two may be trained on "
         "what fusion on one is tested on; leave one of them out."),
        ({"sources": CONFIG["sources"] | {"one": {"kind": "docstrings"},
                                          "two": {"kind": "docstrings", "view": "counts"}}},
         "methods.fusion.trained_on: two and one are drawn from one source, so that pfeiffer on two may be trained on "
         "what fusion on one is tested on; leave one of them out."),
        ({"methods": CONFIG["methods"] | {"full": {"of": "pfeiffer"}}}, "methods.full: full starts from its backbone "
         "alone; leave 'of' and 'trained_on' out."),
        ({"methods": fusion(learning_rate=[1e-3, 1e-2]), "search": {"seed": 5}}, "search.seed: found 5, and the trials "
         "of fusion start from runs of that seed; want one of the study's seeds (0, 1)."),
        ({"methods": CONFIG["methods"] | {"both": {"method": "combined", "parts": ["adapterfusion", "bitfit"]}}},
         "methods.both: adapterfusion cannot be combined: it starts from other runs."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_any_job(blocks, said):
    checking.check(CONFIG, "c.yaml")
    with pytest.raises(StudyError) as error:
        checking.check(changed(**blocks), "c.yaml")
    assert str(error.value) == f"c.yaml: {said}"


def test_a_chain_of_methods_must_end(monkeypatch):
    monkeypatch.setattr(methods.registered()["adapterfusion"], "cannot_start_from", lambda self, method: None)
    blocks = {"a": {"method": "adapterfusion", "of": "b"}, "b": {"method": "adapterfusion", "of": "a"}}
    with pytest.raises(StudyError, match=r"methods.a.of: a of b of a: a run cannot start from itself\."):
        checking.check(changed(methods=CONFIG["methods"] | blocks), "c.yaml")
    blocks["b"]["of"] = "pfeiffer"
    study = checking.check(changed(methods=CONFIG["methods"] | blocks), "c.yaml")
    assert max(run.depth for run in study.runs()) == 2
    depths = [{run.depth for run in pack.runs} for pack in study.packs() if pack.dataset == "one"]
    assert depths == [{0}, {1}, {2}], "one after the other"


@pytest.fixture
def inputs(bert, make_tokens, tmp_path):
    write_parts(tmp_path, PARTS)
    return building.Inputs(make_tokens("bert"), bert, tmp_path / "state", tmp_path / "runs", torch.device("cpu"))


def train(specs, inputs, kept=()):
    folder = inputs.state.parent
    return runs.train_pack(specs, inputs, folder / "train.npy", folder / "validation.npy", kept)


def evaluate(specs, inputs, kept=()):
    return evaluation.evaluate_pack(specs, inputs, inputs.state.parent / "test.npy", kept)


BUDGET = Training(epochs=1, batch_size=16, learning_rate=3e-3)


def spec(dataset, method="pfeiffer", options=(("size", 3),), given=(), seed=0):
    return RunSpec(
        dataset, "90-10", "bert", method, seed, "classification", method, options, BUDGET, Search(), origins=given
    )


ONE = spec("one")
TWO = dataclasses.replace(spec("two"), training=dataclasses.replace(BUDGET, learning_rate=1e-2))
FUSION = spec("two", "adapterfusion", (), (ONE, TWO))


def test_a_run_takes_over_what_its_origins_trained(inputs):
    train([ONE, TWO], inputs)
    evaluate([ONE, TWO], inputs, ["pfeiffer"])
    [record] = train([FUSION], inputs)
    known = {f"runs/{origin.path}": files.read_sealed(inputs.output / origin.path / "record.json")["key"]
             for origin in (ONE, TWO)}  # fmt: skip
    assert record["status"] == "finished" and known.items() <= record["provenance"]["inputs"].items()
    assert [asked["dataset"] for asked in record["asked"]["origins"]] == ["one", "two"]
    [scored] = evaluate([FUSION], inputs)
    assert scored["scores"]["accuracy"] > 0 and not Place(inputs.state / FUSION.path).weights.exists()
    found = dict(building.build(FUSION, inputs, tokens.load(inputs.tokens))[0].model.named_parameters())
    for origin in (ONE, TWO):
        stored = load_file(Place(inputs.state / origin.path).weights)
        own = {key: value for key, value in stored.items() if ".pfeiffer." in key}
        assert own and all(
            torch.equal(found[key.replace(".pfeiffer.", f".pfeiffer-{origin.dataset}.")], value)
            for key, value in own.items()
        )
    firsts = [next(value for key, value in found.items() if f".pfeiffer-{name}." in key) for name in ("one", "two")]
    assert not torch.equal(*firsts)


def test_weights_that_were_not_kept_are_trained_again_where_others_start_from_them(inputs):
    first = train([ONE, TWO], inputs)
    evaluate([ONE], inputs)
    [failed] = train([FUSION], inputs)
    assert "the trained weights are gone, and other runs start from them; delete" in failed["reason"]
    again = train([ONE, TWO], inputs, ["pfeiffer"])
    assert again[0]["weights_sha256"] == first[0]["weights_sha256"] and again[1] == first[1]
    assert train([FUSION], inputs)[0]["status"] == "finished"


def test_a_run_whose_origin_failed_says_so_and_is_tried_again(inputs):
    place = Place(inputs.state / ONE.path)
    train([ONE, TWO], inputs)
    whole = files.read_sealed(place.folder / "record.json")
    for status, reason in (("failed", "MemoryError: too little"), ("diverged", "the training loss was not finite")):
        record = {key: value for key, value in whole.items() if key != "weights_sha256"}
        place.seal("record.json", record | {"status": status, "reason": reason}, "history.csv")
        place.publish(["record.json"], inputs.output / ONE.path)
        [found] = train([FUSION], inputs)
        assert found["status"] == "failed"
        assert found["reason"] == f"it starts from one/90-10/bert/pfeiffer/seed-0, which {status}: {reason}"
        evaluate([FUSION], inputs)
    place.seal("record.json", whole, "history.csv")
    place.publish(["record.json"], inputs.output / ONE.path)
    assert train([FUSION], inputs)[0]["status"] == "finished"


def test_a_run_is_another_one_where_its_origins_are(inputs):
    train([ONE, TWO], inputs)
    before = origins.checksums(FUSION, inputs)
    place = Place(inputs.state / TWO.path)
    record = files.read_sealed(place.folder / "record.json")
    place.seal("record.json", record | {"weights_sha256": "0" * 64}, "history.csv")
    place.publish(["record.json"], inputs.output / TWO.path)
    assert {key for key, value in origins.checksums(FUSION, inputs).items() if value != before[key]} == {
        f"weights/{TWO.path}"
    }
    with pytest.raises(StudyError, match="damaged"):
        origins.method_of(FUSION, inputs)
    with pytest.raises(StudyError, match="of another request; run the study first"):
        origins.checksums(dataclasses.replace(FUSION, origins=(spec("one", options=(("size", 5),)), TWO)), inputs)
    with pytest.raises(StudyError, match="starts from 2 other runs or more, and the specification names 0"):
        origins.method_of(dataclasses.replace(FUSION, origins=()), inputs)


def test_the_seeds_of_a_cell_share_its_trials(inputs):
    settings = dataclasses.replace(BUDGET, learning_rate=(1e-3, 1e-2))
    cell = dataclasses.replace(FUSION, training=settings)
    train([origin.with_seed(seed) for origin in (ONE, TWO) for seed in (0, 1)], inputs)
    search = (inputs.state / cell.path).parent / "search.json"
    train([cell.with_seed(1)], inputs)
    first = search.read_bytes()
    train([cell], inputs)
    assert search.read_bytes() == first


def given(kind, backbone):
    """AdapterFusion of two models that were trained apart by a method."""
    method = methods.create(kind)
    trained = [methods.trained_state(contract.Case(method, backbone).adapted(seed).model) for seed in (1, 2)]
    for number, state in enumerate(trained):
        for key, value in state.items():
            generator = torch.Generator().manual_seed(number)
            state[key] = value + 0.1 * torch.randn(value.shape, generator=generator)
    found = [methods.Origin(f"set-{name}.0", method, state) for name, state in zip("ab", trained, strict=True)]
    return method, found


def difference_of_two_from_one(kind):
    """How far AdapterFusion of a model's modules, twice, is from that model; values start as the identity."""
    method, found = given(kind, "bert")
    twice = methods.create("adapterfusion").given([found[0], dataclasses.replace(found[0], dataset="c")])
    single, fused = contract.Case(method, "bert").adapted(1).model, contract.Case(twice, "bert").adapted(1).model
    methods.load_trained(single, found[0].trained)
    fused.load_state_dict({key: value for key, value in found[0].trained.items() if "classifier" in key
                           or "pooler" in key}, strict=False)  # fmt: skip
    texts, _ = batch("bert")
    shape = contract.Case(method, "bert").shape
    assert twice.count(shape) == shape.layers * method.modules * (3 * shape.hidden**2 + 2 * shape.hidden)
    return float((logits(fused, texts) - logits(single, texts)).abs().max())


@pytest.mark.parametrize("kind", [fused.name for fused in FUSED])
def test_two_of_the_same_are_as_one_whatever_the_attention_is(kind):
    assert difference_of_two_from_one(kind) < 1e-4


def test_the_library_fuses_parallel_modules_wrongly():
    assert difference_of_two_from_one("parallel") > 0.1, "the library mends it now: drop the remedy"


@pytest.mark.parametrize("backbone", ["bert", "modernbert"])
def test_what_was_trained_from_other_runs_is_published_with_what_they_trained(backbone):
    """In the library's own form, and in this package's where the library would change the backbone."""
    method = methods.create("adapterfusion").given(given("pfeiffer", backbone)[1])
    contract.saves_and_loads_bit_for_bit(case := contract.Case(method, backbone))
    contract.comes_back_as_published(case)
    contract.trains_method_and_head_and_nothing_else(case)


def test_weights_that_do_not_fit_are_refused():
    [one, other], [of_another_kind, _] = given("pfeiffer", "bert")[1], given("houlsby", "bert")[1]
    odd = dataclasses.replace(other, trained=of_another_kind.trained)
    with pytest.raises(StudyError, match=r"what set-b.0 trained does not fit: .* is on one side alone"):
        contract.Case(methods.create("adapterfusion").given([one, odd]), "bert").adapted()


@pytest.mark.parametrize("backbone", ["bert", "t5"])
def test_values_are_kept_near_the_identity_in_every_place(backbone):
    """A term of the loss, as in Pfeiffer et al. (2021); its weight is the library's."""
    method = methods.create("adapterfusion")
    model = contract.Case(method, backbone).adapted().model
    values = [value for key, value in model.named_parameters() if key.endswith(".value.weight") and "fusion" in key]
    assert len(values) == len(contract.Case(method, backbone).shape.stacks) * 2
    assert method.penalty(model) < 1e-6
    with torch.no_grad():
        for value in values:
            value += 0.1
    assert method.penalty(model).item() == pytest.approx(0.01 * 0.1**2 * sum(map(torch.numel, values)), rel=1e-3)
