"""What every registered method is and takes beside the contract (see test_contract)."""

import dataclasses
import functools
import subprocess
import sys

import pytest
import torch
import transformers
from batches import batch, logits

from peftstudy import backbones, bodies, contract, listing, methods, tasks
from peftstudy.bodies import folder, load
from peftstudy.errors import StudyError
from peftstudy.methods import adapt, create, load_trained, registered, trained_state
from peftstudy.publication import formats
from peftstudy.publication.trained import Trained
from peftstudy.shapes import Shape, read_shape, shape_of

every_method = pytest.mark.parametrize("name", registered())
every_backbone = pytest.mark.parametrize("backbone", ["bert", "bert-with-pooler", "roberta"])


@functools.cache
def case(name, backbone):
    return contract.Case(create(name), backbone)


def adapted(name, backbone, seed=1):
    return case(name, backbone).adapted(seed)


@every_method
def test_says_what_it_is(name):
    method = registered()[name]
    assert method.__doc__ and method.__doc__ != methods.Method.__doc__
    assert method.citation and method.trains and method.name == name
    rates = method.learning_rates
    assert len(rates) == len(registered()["full"].learning_rates), "every method's search must be as long"
    assert list(rates) == sorted(rates) and 2 < rates[-1] / rates[0] < 1000


def test_adapting_is_quiet():
    """In a process of its own, for libraries keep the standard error that they first saw."""
    code = """
from peftstudy import contract, methods
for name in methods.registered():
    for backbone in ("bert", "modernbert"):
        case = contract.Case(methods.create(name), backbone)
        if not case.impossible:
            case.logits(case.adapted().model)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("name", methods.able(bodies.TASK.name))
def test_takes_the_positions_that_it_declares(name):
    room = bodies.SIZES["max_position_embeddings"] - 2 - create(name).extra_tokens
    inputs, _ = batch("roberta", (room, 4))
    assert logits(adapted(name, "roberta").model, inputs).isfinite().all()


@pytest.mark.parametrize("backbone", bodies.BACKBONES)
def test_parameters_of_a_family_are_counted_by_formula(backbone):
    """Of the body whole, of its parts, and with random weights of the same shape."""
    shape, model = read_shape(folder(backbone)), load(backbone).model
    pooler = shape.pooler and backbone == "bert-with-pooler"
    body = {key: value for key, value in model.base_model.named_parameters() if pooler or "pooler" not in key}
    apart = 0 if pooler else shape.pooler_parameters  # ModernBERT's is no part of the body's module
    assert shape.parameters - apart == sum(value.numel() for value in body.values())
    tables = tuple(f"{path}." for path in shape.about.embeddings)
    assert shape.embedding_parameters == sum(v.numel() for k, v in body.items() if k.startswith(tables))
    assert shape.biases == sum(v.numel() for k, v in body.items() if k.endswith("bias") and "pooler" not in k)
    layers = shape.about.list_of_layers(model.base_model)
    for number, layer in enumerate(layers):
        assert shape.parameters_of([number]) == sum(value.numel() for value in layer.parameters())
    assert len(layers) == shape.all_layers == sum(stack.count for stack in shape.stacks)
    for stack in shape.stacks:
        layer = model.base_model.get_submodule(stack.layers)[0]
        for place, (inputs, outputs) in stack.matrices.items():
            kept = (inputs, outputs) if shape.family == "gpt2" else (outputs, inputs)
            assert tuple(layer.get_submodule(place).weight.shape) == kept


def test_bias_free_layers_stay_so():
    """adapters.init gives them one, drawn at random; the outputs before training are the backbone's without it."""
    import adapters

    theirs = load("modernbert").model
    adapters.init(theirs)
    assert any("Wqkv.bias" in key for key, _ in theirs.named_parameters()), "the library mends it now: drop the remedy"
    ours = adapted("parallel", "modernbert").model
    assert not any("Wqkv.bias" in key for key, _ in ours.named_parameters())


@pytest.mark.parametrize(
    ("name", "options", "backbone"),
    [
        ("lora", {"rank": 3, "targets": ["query", "intermediate", "output"]}, "bert"),
        ("lora", {"targets": ["key", "value", "attention-output"]}, "roberta"),
        ("houlsby", {"size": 5}, "bert"),
        ("houlsby", {"reduction": 3}, "roberta"),
        ("prompt", {"tokens": 3}, "bert-with-pooler"),
        ("prefix", {"inner": 3}, "roberta"),
        ("layers", {"first": 1}, "bert"),
        ("lokr", {"rank": 2, "targets": ["intermediate", "output"]}, "bert"),
        ("oft", {"block": 16, "targets": ["intermediate", "output"]}, "bert"),
        ("vera", {"targets": ["attention-output"]}, "roberta"),
    ],
)
def test_options_change_what_is_counted(name, options, backbone):
    shape = read_shape(folder(backbone))
    result = adapt(create(name, options), load(backbone), shape, 0)
    assert result.method_parameters != create(name).count(shape)


TINY_BERT = {
    "model_type": "bert", "hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 512,
    "num_attention_heads": 2, "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2,
}  # fmt: skip
TINY_ROBERTA = {
    "model_type": "roberta", "hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 1424,
    "num_attention_heads": 4, "vocab_size": 50265, "max_position_embeddings": 512, "type_vocab_size": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "name", "options", "expected"),
    [
        (TINY_BERT, "full", {}, 4_385_920),
        (TINY_BERT, "embeddings", {}, 3_972_864),
        (TINY_BERT, "encoder", {}, 396_544),
        (TINY_BERT, "layers", {}, 198_272),
        (TINY_BERT, "layernorm", {}, 1_280),
        (TINY_BERT, "bitfit", {}, 3_072),
        (TINY_BERT, "prompt", {}, 20 * 128),
        (TINY_BERT, "lora", {}, 8_192),
        (TINY_BERT, "dora", {}, 8_704),
        (TINY_BERT, "vera", {"rank": 64}, 768),
        (TINY_BERT, "loha", {}, 16_384),
        (TINY_BERT, "lokr", {}, 1_280),
        (TINY_BERT, "oft", {}, 7_936),
        (TINY_BERT, "hra", {}, 4_096),
        (TINY_BERT, "fourierft", {"frequencies": 200}, 800),
        (TINY_BERT, "ia3", {}, 1_536),
        (TINY_BERT, "houlsby", {}, 8_736),
        (TINY_BERT, "pfeiffer", {}, 4_368),
        (TINY_BERT, "parallel", {}, 4_368),
        (TINY_BERT, "adapterfusion", {}, 98_816),
        (TINY_BERT, "prefix", {"tokens": 10}, 5_120),
        (TINY_BERT, "prefix", {"tokens": 10, "inner": 64}, 42_816),
        (TINY_ROBERTA, "full", {}, 16_979_776),
        (TINY_ROBERTA, "embeddings", {}, 12_999_936),
        (TINY_ROBERTA, "encoder", {}, 3_979_840),
        (TINY_ROBERTA, "layernorm", {}, 4_608),
        (TINY_ROBERTA, "lora", {}, 32_768),
        (TINY_ROBERTA, "dora", {}, 34_816),
        (TINY_ROBERTA, "vera", {"rank": 64}, 2_560),
        (TINY_ROBERTA, "loha", {}, 65_536),
        (TINY_ROBERTA, "lokr", {}, 4_096),
        (TINY_ROBERTA, "fourierft", {"frequencies": 200}, 1_600),
        (TINY_ROBERTA, "prefix", {"tokens": 10}, 20_480),
        (TINY_ROBERTA, "houlsby", {}, 67_712),
        (TINY_ROBERTA, "pfeiffer", {}, 33_856),
        (TINY_ROBERTA, "adapterfusion", {}, 788_480),
    ],
)
def test_published_counts(config, name, options, expected):
    """The course report's and the libraries' counts; BERT's pooler is a part of its weights there."""
    family = config["model_type"]
    shape = shape_of(config, pooler=family == "bert")
    with torch.device("meta"):
        config = transformers.AutoConfig.for_model(**config)
        model = transformers.AutoModelForSequenceClassification.from_config(config)
        head = frozenset(key for key, _ in model.named_parameters() if key.startswith("classifier."))
        result = adapt(create(name, options), backbones.Loaded(model, head), shape, 0)
    assert (result.method_parameters, create(name, options).count(shape)) == (expected, expected)
    assert result.head_parameters == (258 if family == "bert" else 256 * 256 + 256 + 2 * 256 + 2)
    if name == "full":
        assert shape.pooler_parameters == (16_512 if family == "bert" else 0)


@every_backbone
def test_prompt_reads_as_in_the_adapters_library(backbone):
    """The same logits as adapters' prompt tuning, which adds its vectors behind the embedding layer."""
    import adapters

    ours = case("prompt", backbone).fitted.adapted.model
    base = load(backbone, attention="eager").model
    adapters.init(base)
    base.add_adapter("prompt", config=adapters.PromptTuningConfig(prompt_length=20, combine="prefix_after_bos"))
    base.set_active_adapters("prompt")
    embeddings = ours.model.base_model.embeddings
    embedded = embeddings(inputs_embeds=ours.prompt[None], position_ids=ours.positions[None],
                          token_type_ids=torch.zeros(1, 20, dtype=torch.long))  # fmt: skip
    base.base_model.prompt_tuning.prompt_tunings["prompt"].prompt_embedding.weight.data = embedded[0].detach()
    theirs = {key.removeprefix("model."): value for key, value in trained_state(ours).items() if key != "prompt"}
    base.load_state_dict(theirs, strict=False)
    inputs, _ = batch(backbone)
    torch.testing.assert_close(logits(ours, inputs), logits(base, inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backbone", ["distilbert", "deberta-v2", "modernbert", "modernbert-with-head"])
@pytest.mark.parametrize("of", ["classification", "token-classification"])
def test_a_prompt_behind_the_text_reads_as_the_words_that_it_is_made_of(backbone, of):
    """Behind each text's last token, and for a head that reads them all in the order of other families."""
    ours = contract.Case(create("prompt", {"tokens": 4}), backbone, of).adapted().model
    table = ours.model.base_model.get_input_embeddings().weight
    words = torch.stack([(row == table).all(dim=1).nonzero()[0, 0] for row in ours.prompt])
    inputs, _ = batch(backbone)
    found = logits(ours, inputs)
    for row, length in enumerate(inputs["attention_mask"].sum(1)):
        alone = logits(ours.model, {"input_ids": torch.cat([inputs["input_ids"][row, :length], words])[None]})[0]
        if of == "token-classification":
            alone = torch.cat([alone[:1], alone[length:], alone[1:length]])
        torch.testing.assert_close(found[row, : len(alone)], alone, rtol=1e-4, atol=1e-5)


def test_prompt_starts_as_words():
    result = adapted("prompt", "bert")
    words = result.model.model.base_model.embeddings.word_embeddings.weight
    assert all((row == words).all(dim=1).any() for row in result.model.prompt)


def test_prompt_starts_as_the_names_of_classes(bert):
    from transformers import AutoTokenizer

    names, task = ["good", "bad news", "neither"], tasks.create("label-generation")
    loaded = backbones.load(bert, tasks.create("classification"), 3, 0, labels=names)
    method = create("prompt", {"initial": "labels", "tokens": 5})
    found = adapt(method, loaded, read_shape(bert), 0).model.prompt
    tokenizer = AutoTokenizer.from_pretrained(bert, local_files_only=True)
    words = loaded.model.base_model.get_input_embeddings().weight
    expected = [words[tokenizer(name, add_special_tokens=False)["input_ids"]].mean(0) for name in names]
    torch.testing.assert_close(found[:3], torch.stack(expected))
    assert found.shape == (5, words.shape[1]) and method.cannot(task.name) is None
    without = [name for name in tasks.registered() if method.cannot(name)]
    assert without == ["extractive-qa", "generation", "multiple-choice", "regression"]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("lorra", {}, "unknown method 'lorra'.*Did you mean 'lora'"),
        ("lora", {"rnak": 8}, "methods.lora: unknown option 'rnak'.*Did you mean 'rank'"),
        ("lora", {"rank": "8"}, "methods.lora.rank: '8' is not of the type int"),
        ("lora", {"rank": True}, "rank: True"),
        ("lora", {"rank": 0}, "rank 0"),
        ("lora", {"targets": ["queries"]}, "queries.*query"),
        ("lora", {"targets": []}, "one or more of"),
        ("lora", {"targets": "query"}, "not of the type list of str"),
        ("prompt", {"tokens": 0}, "at least 1"),
        ("prompt", {"tokens": 2.5}, "not of the type int"),
        ("houlsby", {"size": 0}, "at least 1"),
        ("houlsby", {"size": "wide"}, "not of the type int or null"),
        ("compacter", {"size": 6}, "multiple of 4"),
        ("hra", {"rank": 3}, "even"),
        ("layers", {"last": 0}, "at least one layer"),
        ("prefix", {"inner": 0}, "at least 1"),
        ("vera", {"targets": ["queries"]}, "queries.*query"),
    ],
)
def test_refuses_bad_options(name, options, words):
    with pytest.raises(StudyError, match=words):
        create(name, options)


def test_options_come_as_pairs_too():
    assert create("lora", (("rank", 4), ("targets", ("key",)))) == create("lora", {"targets": ["key"], "rank": 4})


def test_refuses_a_prompt_without_room():
    shape = Shape("bert", 32, 2, 48, 2, 200, 22, 2)
    assert create("prompt", {"tokens": 19}).skip(shape) is None
    with pytest.raises(StudyError, match="room for 19"):
        adapt(create("prompt"), load("bert"), shape, 0)


class _Greedy(methods.Method):
    """Trains a parameter more than it says."""

    name = "greedy"

    def adapt(self, model, shape):
        return model.requires_grad_(True)

    def count(self, shape):
        return shape.parameters - 1


class _Headless(_Greedy):
    """Replaces the head."""

    def adapt(self, model, shape):
        model.classifier = torch.nn.Linear(32, 3)
        return model


@pytest.mark.parametrize(("method", "words"), [(_Greedy(), "its formula says"), (_Headless(), "part of the head")])
def test_a_method_that_lies_is_refused(method, words):
    with pytest.raises(StudyError, match=words):
        adapt(method, load("bert"), read_shape(folder("bert")), 0)


def test_load_trained_is_strict():
    model = adapted("bitfit", "bert").model
    state = trained_state(model)
    name = min(state)
    with pytest.raises(StudyError, match=f"lacks {name}"):
        load_trained(model, {key: value for key, value in state.items() if key != name})
    with pytest.raises(StudyError, match="unexpected strange"):
        load_trained(model, state | {"strange": torch.zeros(1)})
    with pytest.raises(StudyError, match="shape"):
        load_trained(model, state | {name: torch.zeros(1)})
    assert all(torch.equal(state[key], value) for key, value in trained_state(model).items())


def test_no_decay_spares_biases_and_layer_norms():
    method = create("full")
    names = [name for name, _ in load("bert").model.named_parameters() if not method.no_decay(name)]
    assert names and all(name.endswith("weight") and "LayerNorm" not in name for name in names)


def test_listing_imports_nothing_heavy():
    heavy = "{'torch', 'transformers', 'peft', 'adapters', 'sklearn', 'pandas', 'numpy'}"
    code = f"""
import sys
from peftstudy import listing, methods, shapes, tasks
methods.create("lora", dict(rank=4)), tasks.create("classification"), listing.methods_table()
print(sorted({heavy} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


OWN = """
from peftstudy.methods import Method, register

@register("shiny")
class Shiny(Method):
    citation = ""
    trains = "the biases of queries"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)

    def skip(self, shape):
        return None if shape.family == "roberta" else "written for RoBERTa"

    def adapt(self, model, shape):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith("query.bias"))
        return model

    def count(self, shape):
        return shape.layers * shape.hidden
"""


def named(name):
    return OWN.replace('"shiny"', f'"{name}"')


def answers(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_a_new_method_is_one_file(tmp_path):
    (tmp_path / "shiny.py").write_text(OWN)
    code = f"""
from peftstudy import methods
methods.__path__.append({str(tmp_path)!r})
print('shiny' in methods.registered())
"""
    assert answers(code) == "True\n"


def test_a_package_brings_methods_by_an_entry_point(tmp_path):
    (tmp_path / "shiny_package.py").write_text(OWN)
    about = tmp_path / "shiny_package-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shiny-package\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[peftstudy.methods]\nshiny = shiny_package\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + (
        "from peftstudy import methods; print('shiny' in methods.registered(), methods.create('shiny').name)"
    )
    assert answers(code) == "True shiny\n"


SCALE = """
import torch
from peftstudy.methods import Method, register


@register("scale-mine")
class Scale(Method):
    trains = "a vector that each layer's output is added to"
    learning_rates = (1e-3, 3e-3)

    def adapt(self, model, shape):
        model.requires_grad_(False)
        for layer in model.base_model.encoder.layer:
            layer.shift = torch.nn.Parameter(torch.zeros(shape.hidden))
            layer.register_forward_hook(lambda layer, _, out: (out[0] + layer.shift, *out[1:]))
        return model

    def count(self, shape):
        return shape.layers * shape.hidden
"""


def test_a_method_of_ones_own_is_published_with_its_file(tmp_path):
    (tmp_path / "scale.py").write_text(SCALE)
    case = contract.Case(create(str(tmp_path / "scale.py")), "bert")
    contract.comes_back_as_published(case)
    labels, own = tuple(case.data.about["labels"]), bodies.folder("bert")
    trained = Trained(case.method, case.task, own, case.shape, 1, labels, trained_state(case.fitted.adapted.model))
    form = formats.of(trained)
    (tmp_path / "out").mkdir()
    form.write(trained, tmp_path / "out")
    assert (tmp_path / "out/scale.py").read_text() == SCALE
    assert "# The method is a file in this folder, scale.py, which this runs." in form.lines(trained)
    assert str(tmp_path) not in (tmp_path / "out" / formats.RECIPE).read_text()
    both = create("combined", {"parts": {str(tmp_path / "scale.py"): {}, "bitfit": {}}})
    with pytest.raises(StudyError, match="combined: has a part in a file of your own, which cannot be published"):
        formats.Own().write(dataclasses.replace(trained, method=both), tmp_path / "out")


def test_a_method_of_ones_own_is_a_file_that_the_configuration_names(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    found = create(str(tmp_path / "own.py"))
    assert found.name == "shiny" and found == create(str(tmp_path / "own.py"))
    assert "shiny" not in registered(), "a file is for who names it"
    lines = list(contract.check(found))
    assert lines[0] == "bert: impossible: written for RoBERTa"
    assert lines[2] == f"roberta: classification: {len(contract.CHECKS)} checks hold, 64 parameters trained"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file"),
        ("import nothing_like_this", "cannot be imported"),
        ("x = 1", "registers none"),
        (named("lora"), "two methods are registered as 'lora'"),
        (named("one").replace("def count", "def counts"), r"the class Shiny lacks count\(\)"),
        (
            named("two").replace("    trains =", "    trained ="),
            "the class Shiny lacks trains; a whole one is in README.md",
        ),
        (named("three").replace("(Method)", ""), r"Shiny is no method; want class Shiny\(Method\)"),
    ],
)
def test_files_that_are_no_methods(tmp_path, text, words):
    if text:
        (tmp_path / "own.py").write_text(text)
    with pytest.raises(StudyError, match=rf"methods.mine: .*own.py: .*{words}"):
        create(str(tmp_path / "own.py"), {}, "methods.mine")


class _Leaky(methods.Method):
    """Moves a frozen parameter, answers otherwise at the start, and hides what it trains."""

    name, citation, trains, learning_rates = "leaky", "", "too much", (1e-3, 1e-2)

    def adapt(self, model, shape):
        model.base_model.embeddings.LayerNorm.weight.data *= 2
        model.base_model.embeddings.LayerNorm.bias.requires_grad_(True)
        return model

    def after_step(self, model, step):
        model.base_model.embeddings.LayerNorm.weight.data += 0.1

    def count(self, shape):
        return shape.hidden


def test_the_contract_finds_what_is_wrong():
    with pytest.raises(StudyError, match="leaky on bert, classification: starts from the backbone: outputs differ"):
        list(contract.check(_Leaky()))
    with pytest.raises(AssertionError, match="a frozen parameter moved"):
        contract.trains_method_and_head_and_nothing_else(contract.Case(_Leaky(), "bert"))


def test_what_is_left_out_says_why():
    with pytest.raises(StudyError, match=r"multitask-prompt is left out: .*several tasks"):
        create("multitask-prompt")
    assert not methods.LEFT_OUT.keys() & registered().keys()
    assert all(name in listing.limits_table() for name in methods.LEFT_OUT)
