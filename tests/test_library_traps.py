"""What peft, adapters and transformers do when they are used as they come, and that our methods do not: in pairs."""

from importlib.metadata import requires, version

import adapters
import numpy as np
import peft
import pytest
import torch
import transformers
from batches import batch, logits
from packaging.requirements import Requirement

from peftstudy import backbones, bodies, contract, methods, tasks, tokens, training
from peftstudy.changes import additions, edits, projections
from peftstudy.checkpoints import Checkpoints
from peftstudy.specs import Training

EVERY_TARGET = {"targets": list(projections.TARGETS)}


def adapted(backbone, name, options=()):
    return methods.adapt(
        methods.create(name, options), bodies.load(backbone), backbones.read_shape(bodies.folder(backbone)), 1
    )


def replaced(model, kind):
    """Return the paths of the matrices that a method of peft has replaced, without its wrappers' own names."""
    return {
        name.removeprefix("base_model.model.") for name, module in model.named_modules() if isinstance(module, kind)
    }


@pytest.mark.parametrize(("task_type", "trained", "held"), [(None, set(), 2), ("SEQ_CLS", {"classifier"}, 4)])
def test_peft_alone_trains_no_head_or_a_part_of_it_and_holds_it_twice(task_type, trained, held):
    """Trap 1: BERT's pooler is fresh here, so that it belongs to the head."""
    config = peft.LoraConfig(target_modules=["query", "value"], task_type=task_type)
    naive = dict(peft.get_peft_model(bodies.load("bert").model, config).named_parameters())
    found = {name: parameter for name, parameter in naive.items() if "classifier" in name or "pooler" in name}
    moving = {name for name, parameter in found.items() if parameter.requires_grad}
    assert {part for part in ("classifier", "pooler") if any(part in name for name in moving)} == trained
    assert sum("classifier" in name for name in found) == held, "a weight and a bias, and copies of them"
    own, plain = adapted("bert", "lora"), bodies.load("bert").model
    head = {"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"}
    assert own.head_names == head
    assert own.head_parameters == sum(plain.get_parameter(name).numel() for name in head)


@pytest.mark.parametrize("of", ["classification", "tagging", "extractive-qa"])
def test_all_linear_reaches_what_is_no_layer(of):
    """Trap 2: the pooler, and heads."""
    task = tasks.create(of)

    def body():
        return backbones.load(bodies.folder("bert"), task, 3, 1).model

    others = {"pooler.dense", "classifier", "qa_outputs"}
    naive = peft.get_peft_model(body(), peft.LoraConfig(target_modules="all-linear"))
    found = {name.removeprefix("bert.") for name in replaced(naive, peft.tuners.lora.LoraLayer)}
    assert found & others, "the library leaves them alone now"
    shape = backbones.shape_for(bodies.folder("bert"), task)
    own = methods.adapt(
        methods.create("lora", EVERY_TARGET), backbones.load(bodies.folder("bert"), task, 3, 1), shape, 1
    )
    places = replaced(own.model, peft.tuners.lora.LoraLayer)
    assert len(places) == 6 * shape.layers and all(".layer." in name for name in places)


def test_the_feed_forward_of_ia3_is_not_the_attentions_output():
    """Trap 4: `output.dense`, as the library has it, is the end of both paths."""
    naive = peft.get_peft_model(bodies.load("bert").model, peft.IA3Config(task_type="SEQ_CLS"))
    theirs, ours = (replaced(model, peft.tuners.ia3.IA3Layer) for model in (naive, adapted("bert", "ia3").model))
    assert any(name.endswith("attention.output.dense") for name in theirs), "the library tells them apart now"
    assert ours == {name for name in theirs if not name.endswith("attention.output.dense")}


@torch.no_grad()
def test_matrices_of_gpt2_are_turned_without_changing_anything():
    """Trap 5: many methods refuse them as they are."""
    config = peft.LoHaConfig(target_modules=["c_attn"])
    with pytest.raises((ValueError, TypeError)):
        peft.get_peft_model(bodies.load("gpt2").model, config)
    model, (inputs, _) = bodies.load("gpt2").model, batch("gpt2")
    before = logits(model, inputs)
    projections.straighten(model)
    assert torch.equal(logits(model, inputs), before)
    assert adapted("gpt2", "loha", {"targets": ["query"]}).method_parameters


@torch.no_grad()
def test_behind_a_prompt_gpt2_still_finds_its_last_word():
    """Trap 6: given vectors in place of words, the library takes the last place for it, padding or not."""
    inputs, _ = batch("gpt2", (9, 5))
    short = {name: tensor[1:, :5] for name, tensor in inputs.items()}

    def change(model):
        model.config.pad_token_id = 0
        return float((logits(model, inputs)[1] - logits(model, short)[0]).abs().max())

    config = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4)
    assert change(peft.get_peft_model(bodies.load("gpt2").model, config)) > 1e-3, "the library finds it now"
    assert change(adapted("gpt2", "prompt", {"tokens": 4}).model) < 1e-5


def test_prefixes_of_gpt2_learn_under_eager_attention_alone():
    """Trap 7: no error, no gradient."""

    def gradient(attention):
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            bodies.folder("gpt2"), attn_implementation=attention, num_labels=3
        )
        config = methods.create("prefix").config(backbones.read_shape(bodies.folder("gpt2")))
        inputs, labels = batch("gpt2")
        model = additions.add(model, "prefix", config).train()
        model(**inputs, labels=labels).loss.backward()
        return max(float(p.grad.abs().max()) for name, p in model.named_parameters() if "prefix" in name)

    assert gradient("sdpa") == 0 < gradient("eager"), "under sdpa they learn now: families need not ask for eager"
    assert bodies.load("gpt2").model.config._attn_implementation == "eager"


def test_prefixes_of_peft_do_not_fit_roberta():
    """Trap 8: hence those of the adapters library."""
    inputs, _ = batch("roberta")
    config = peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4)
    with pytest.raises(Exception):  # noqa: B017 (whichever way it fails)
        logits(peft.get_peft_model(bodies.load("roberta").model, config), inputs)
    assert logits(adapted("roberta", "prefix").model, inputs).isfinite().all()


@pytest.mark.parametrize(
    "name", [name for name, method in methods.registered().items() if issubclass(method, additions.Added)]
)
def test_a_seed_for_the_library_s_weights_would_reset_ours(name):
    """Trap 12: what is drawn after it follows the run's seed no longer, and is the same in every run."""

    def drawn_after(config, seed):
        model = bodies.load("bert").model
        torch.manual_seed(seed)
        additions.add(model, "mine", config)
        return torch.rand(3)

    own = methods.create(name).config(backbones.read_shape(bodies.folder("bert")))
    assert not torch.equal(drawn_after(own, 1), drawn_after(own, 2))
    if name == "houlsby":
        theirs = own.replace(init_weights_seed=7)
        assert torch.equal(drawn_after(theirs, 1), drawn_after(theirs, 2)), "the library spares the generator now"


@torch.no_grad()
def test_peft_s_model_for_questions_forgets_which_tokens_are_the_question_s():
    """Hence what is published for it names no task type."""
    case, (inputs, _) = contract.Case(methods.create("lora"), "bert", "extractive-qa"), batch("bert")
    config = peft.LoraConfig(target_modules=["query", "value"], task_type="QUESTION_ANS")
    theirs = peft.get_peft_model(case.loaded().model, config)(**inputs).start_logits
    expected = case.loaded().model(**inputs).start_logits
    assert not torch.allclose(theirs, expected, atol=1e-3), "it keeps them now: name the task type again"
    with torch.enable_grad():
        contract.comes_back_as_published(case)


@pytest.mark.parametrize("backbone", ["gpt2", "t5"])
def test_loreft_of_the_library_fails_where_a_text_is_shorter_than_its_places(backbone, monkeypatch):
    """Behind the padding of a source, and in a target, for it keeps the places that it found in the encoder's text."""

    def use():
        case = contract.Case(methods.create("loreft"), backbone, "label-generation")
        contract.padding_changes_nothing(case)
        contract.writes_what_is_most_probable(case)

    use()
    monkeypatch.setattr(edits, "keep_within", lambda model: model)
    with pytest.raises(RuntimeError, match="out of bounds"):
        use()


def test_every_module_trains_in_training(bert, make_tokens):
    """Trap 12: the adapters library leaves the top one in evaluation mode, and so do we, until the loop begins."""
    task, method = tasks.create("classification"), methods.create("houlsby")
    result = methods.adapt(method, backbones.load(bert, task, 3, 0), backbones.read_shape(bert), 0)
    assert not result.model.training
    run, seen = training.Run(result.model, method, task, Training(epochs=2, batch_size=16), 0), []
    result.model.register_forward_pre_hook(lambda *_: seen.append({m.training for m in result.model.modules()}))
    run.fit(tokens.load(make_tokens("bert")), np.arange(16), np.arange(16, 32), Checkpoints())
    assert seen == [{True}, {False}, {True}, {False}]


def test_the_adapters_library_has_the_transformers_that_it_asks_for():
    """Trap 15: with the next major version it does not work."""
    wanted = next(Requirement(line) for line in requires("adapters") if Requirement(line).name == "transformers")
    assert wanted.specifier.contains(version("transformers")) and not wanted.specifier.contains("5.0.0")
    assert adapters.__version__ == version("adapters")
