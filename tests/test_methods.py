"""What every registered method must keep to, on a BERT and a RoBERTa body; a new method's file joins unasked."""

import functools
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from peftstudy import backbones, methods, tasks
from peftstudy.errors import StudyError
from peftstudy.methods import adapt, create, load_trained, registered, trained_state
from peftstudy.shapes import Shape, read_shape, shape_of

TASK = tasks.create("classification")
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "num_attention_heads": 2, "vocab_size": 200,
    "max_position_embeddings": 66, "type_vocab_size": 2, "initializer_range": 0.2,
}  # fmt: skip
BACKBONES = {
    "bert": (transformers.BertConfig, transformers.BertModel, False),
    "bert-with-pooler": (transformers.BertConfig, transformers.BertModel, True),
    "roberta": (transformers.RobertaConfig, transformers.RobertaModel, False),
}
DRAWS = itertools.count(1)
every_method = pytest.mark.parametrize("name", registered())
every_backbone = pytest.mark.parametrize("backbone", BACKBONES)


@functools.cache
def _folders():
    return tempfile.TemporaryDirectory()


@functools.cache
def folder(backbone):
    configuration, model, pooler = BACKBONES[backbone]
    path = Path(_folders().name) / backbone
    torch.manual_seed(0)
    model(configuration(**SIZES), add_pooling_layer=pooler).save_pretrained(path)
    return path


def load(backbone, seed=1, attention="sdpa", classes=3):
    return backbones.load(folder(backbone), TASK, classes, seed, attention)


def adapted(name, backbone, seed=1):
    method = create(name)
    loaded = load(backbone, seed, method.attention)
    torch.rand(next(DRAWS))  # what was drawn before must not matter
    return adapt(method, loaded, read_shape(folder(backbone)), seed)


def batch(backbone, lengths=(9, 5, 12, 7, 3, 12), classes=3):
    """Random texts, padded on the right, the second halves being second texts for BERT; and labels."""
    rng = torch.Generator().manual_seed(7)
    padding = 1 if backbone == "roberta" else 0
    ids = torch.full((len(lengths), max(lengths)), padding)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(5, 200, (length,), generator=rng)
        mask[row, :length] = 1
        types[row, length // 2 : length] = 1
    ids[:, 0] = 2
    inputs = {"input_ids": ids, "attention_mask": mask}
    if backbone != "roberta":
        inputs["token_type_ids"] = types
    return inputs, torch.arange(len(lengths)) % classes


@torch.no_grad()
def logits(model, inputs):
    return model.eval()(**inputs).logits


@functools.cache
def trained(name, backbone):
    """Fit one batch, without dropout; return the adapted model, its parameters before, and the two losses."""
    result = adapted(name, backbone)
    before = {key: value.detach().clone() for key, value in result.model.named_parameters()}
    rate = min(0.01, max(0.003, registered()[name].learning_rates[-1]))
    optimizer = torch.optim.AdamW([p for p in result.model.parameters() if p.requires_grad], lr=rate)
    inputs, labels = batch(backbone)
    losses = [TASK.loss(logits(result.model, inputs), labels).item()]
    method = create(name)
    method.prepare(result.model, 60, lambda *_: iter([TASK.loss(result.model(**inputs).logits, labels)]))
    for step in range(1, 61):
        loss = TASK.loss(result.model(**inputs).logits, labels)
        (loss + (method.penalty(result.model) or 0.0)).backward()
        optimizer.step()
        method.after_step(result.model, step)
        optimizer.zero_grad()
    losses.append(TASK.loss(logits(result.model, inputs), labels).item())
    return result, before, losses


@every_method
def test_says_what_it_is(name):
    method = registered()[name]
    assert method.__doc__ and method.__doc__ != methods.Method.__doc__
    assert method.citation and method.trains and method.name == name
    rates = method.learning_rates
    assert len(rates) == len(registered()["full"].learning_rates), "every method's search must be as long"
    assert list(rates) == sorted(rates) and 2 < rates[-1] / rates[0] < 1000


@every_backbone
@every_method
def test_starts_from_the_backbone(name, backbone):
    inputs, _ = batch(backbone)
    difference = (logits(adapted(name, backbone).model, inputs) - logits(load(backbone).model, inputs)).abs().max()
    if create(name).start:
        assert difference > 1e-6, "the documented reason no longer holds"
    else:
        assert difference < 1e-6


@every_backbone
@every_method
def test_trains_method_and_head_and_nothing_else(name, backbone):
    result, before, _ = trained(name, backbone)
    named = dict(result.model.named_parameters())
    free = {key for key, value in named.items() if value.requires_grad}
    assert free == result.method_names | result.head_names and not result.method_names & result.head_names
    moved = {key for key, value in named.items() if not torch.equal(value, before[key])}
    assert moved <= free, "a frozen parameter moved"
    assert {key for key in result.head_names if key.endswith("weight")} <= moved, "the head stood still"
    assert bool(moved & result.method_names) == bool(result.method_parameters), "the method's parameters stood still"


@every_backbone
@every_method
def test_fits_one_batch(name, backbone):
    before, after = trained(name, backbone)[2]
    assert after < 0.5 * before


@every_backbone
@every_method
def test_counts_what_it_trains(name, backbone):
    result, _, _ = trained(name, backbone)
    expected = create(name).count(read_shape(folder(backbone)))
    assert result.method_parameters == expected
    assert result.head_parameters == sum(load(backbone).model.get_parameter(key).numel() for key in load(backbone).head)
    stored = {key: tensor for key, tensor in trained_state(result.model).items() if not key.endswith("chosen")}
    assert sum(tensor.numel() for tensor in stored.values()) == expected + result.head_parameters


@every_backbone
@every_method
def test_saves_and_loads_bit_for_bit(name, backbone, tmp_path):
    result, _, _ = trained(name, backbone)
    inputs, _ = batch(backbone)
    save_file(trained_state(result.model), tmp_path / "trained.safetensors")
    again = adapted(name, backbone).model
    assert not torch.equal(logits(again, inputs), logits(result.model, inputs))
    load_trained(again, load_file(tmp_path / "trained.safetensors"))
    assert torch.equal(logits(again, inputs), logits(result.model, inputs))


@every_backbone
@every_method
def test_the_seed_fixes_the_weights(name, backbone):
    first, same, other = (trained_state(adapted(name, backbone, seed).model) for seed in (1, 1, 2))
    assert first.keys() == same.keys() and all(torch.equal(first[key], same[key]) for key in first)
    head = {key for key in adapted(name, backbone).head_names if key.endswith("weight")}
    assert head and all(not torch.equal(first[key], other[key]) for key in head)
    fresh = load(backbone).model.classifier.state_dict()
    named = {key.split("classifier.")[1]: value for key, value in first.items() if "classifier." in key}
    assert all(torch.equal(fresh[key], named[key]) for key in fresh), "the head's start depends on the method"


def test_adapting_is_quiet():
    """In a process of its own, for libraries keep the standard error that they first saw."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_methods as this
for name in this.registered():
    this.logits(this.adapted(name, "bert").model, this.batch("bert")[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


@every_backbone
@every_method
def test_padding_changes_nothing(name, backbone):
    model = trained(name, backbone)[0].model
    inputs, _ = batch(backbone)
    together = logits(model, inputs)
    for row, length in enumerate(inputs["attention_mask"].sum(1)):
        alone = logits(model, {key: value[row : row + 1, :length] for key, value in inputs.items()})
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)


@every_method
def test_takes_the_positions_that_it_declares(name):
    room = SIZES["max_position_embeddings"] - 2 - create(name).extra_tokens
    inputs, _ = batch("roberta", (room, 4))
    assert logits(adapted(name, "roberta").model, inputs).isfinite().all()


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

    ours = trained("prompt", backbone)[0].model
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


def test_prompt_starts_as_words():
    result = adapted("prompt", "bert")
    words = result.model.model.base_model.embeddings.word_embeddings.weight
    assert all((row == words).all(dim=1).any() for row in result.model.prompt)


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


def test_a_new_method_is_one_file(tmp_path):
    (tmp_path / "shiny.py").write_text(
        "from peftstudy.methods import Method, register\n"
        "@register('shiny')\n"
        "class Shiny(Method):\n"
        "    adapt = count = None\n"
    )
    code = f"""
from peftstudy import methods
methods.__path__.append({str(tmp_path)!r})
print('shiny' in methods.registered())
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"
