"""What methods must keep to where a model writes texts, on every family that does."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from peftstudy import backbones, contract, methods, tasks, tokens, training, writing
from peftstudy.engine import Engine
from peftstudy.errors import StudyError
from peftstudy.families import WRITERS
from peftstudy.shapes import planned_shape

TASK = tasks.create("generation")
BATCH = np.array([3, 17, 40, 41, 66, 90])
STEPS, LONGEST = 25, 8
A_FEW = ("houlsby", "infix", "lora", "loreft", "prefix", "prompt")
"""The kinds of change: to states, to matrices, to what is attended to, to what is read."""


def impossible(family, name):
    method = methods.create(name)
    return method.not_for.get("generation") or method.skip(contract.Case(method, family).shape)


PAIRS = [
    pytest.param(family, name, marks=() if name in A_FEW else pytest.mark.matrix)
    for family in WRITERS
    for name in methods.registered()
    if not impossible(family, name)
]
every_pair = pytest.mark.parametrize(("family", "name"), PAIRS)


def adapted(folder, name, seed=1):
    method = methods.create(name)
    loaded = backbones.load(folder, TASK, 0, seed, method.attention)
    return methods.adapt(method, loaded, backbones.shape_for(folder, TASK), seed)


def an_engine(model, name, tricks="plain"):
    method = methods.create(name)
    return Engine(model, tricks, 0, method.extra_tokens, method.plain_attention, reads_first=False)


def loss_of(engine, data, index=BATCH):
    return TASK.loss(TASK.logits(engine, data, index), torch.from_numpy(TASK.targets(data, index)))


@pytest.fixture(scope="module")
def fitted(make_backbone, make_task_tokens):
    """Return a function that fits one batch without dropout, once: the model, its weights before, data and losses."""

    @functools.cache
    @torch.enable_grad()  # also when it is first asked for where gradients are off
    def fit(family, name):
        data, method = tokens.load(make_task_tokens("generation", family)), methods.create(name)
        result = adapted(make_backbone(family), name)
        before = {key: value.detach().clone() for key, value in result.model.named_parameters()}
        engine = an_engine(result.model, name)
        optimizer = torch.optim.AdamW(training._groups(result.model, method, training.Training(weight_decay=0.01)))
        method.prepare(result.model, STEPS, lambda *_: iter([loss_of(engine, data)]))
        losses = []
        for step in range(1, STEPS + 1):
            for group in optimizer.param_groups:
                group["lr"] = min(0.01, max(0.003, method.learning_rates[-1]))
            loss = loss_of(engine, data)
            losses.append(float(loss.detach()))
            (loss + (method.penalty(result.model) or 0.0)).backward()
            optimizer.step()
            method.after_step(result.model, step)
            optimizer.zero_grad()
        result.model.eval()
        return result, before, data, losses

    return fit


@every_pair
def test_trains_what_the_formula_says_and_learns(family, name, fitted, make_backbone):
    result, before, _, losses = fitted(family, name)
    assert losses[-1] < losses[0] - 0.02
    moved = {key for key, value in result.model.named_parameters() if not torch.equal(value, before[key])}
    assert moved and moved <= result.method_names, "what moved is not the method's"
    shape = backbones.shape_for(make_backbone(family), TASK)
    assert not result.head_names and result.method_parameters == methods.create(name).count(shape)


@every_pair
@torch.no_grad()
def test_saves_and_loads_bit_for_bit(family, name, fitted, make_backbone):
    result, _, data, _ = fitted(family, name)
    again = adapted(make_backbone(family), name).model
    expected = an_engine(result.model, name).target_logits(data, BATCH)
    assert not torch.equal(an_engine(again, name).target_logits(data, BATCH), expected)
    methods.load_trained(again, methods.trained_state(result.model))
    assert torch.equal(an_engine(again, name).target_logits(data, BATCH), expected)


@every_pair
@torch.no_grad()
def test_padding_changes_nothing(family, name, fitted):
    result, _, data, _ = fitted(family, name)
    engine = an_engine(result.model, name)
    alone = torch.cat([engine.target_logits(data, BATCH[i : i + 1]) for i in range(len(BATCH))])
    torch.testing.assert_close(alone, engine.target_logits(data, BATCH), rtol=1e-4, atol=1e-4)


@every_pair
@torch.no_grad()
def test_each_token_that_is_written_is_the_most_probable_one(family, name, fitted):
    """By the logits of whole texts: whatever caches, prompts and padding in front do, they must not change it."""
    result, _, data, _ = fitted(family, name)
    end = data.about["end_id"]
    own = [np.append(ids, end)[:LONGEST] for ids in writing.write(result.model, data, BATCH, LONGEST, beams=1)]
    sizes = np.zeros(len(data.lengths), int)
    sizes[BATCH] = [len(ids) for ids in own]
    again = replace(data, arrays={"target_ids": np.concatenate(own), "targets": np.append(0, np.cumsum(sizes))})
    found = an_engine(result.model, name).target_logits(again, BATCH)
    chosen = found[torch.arange(len(found)), torch.from_numpy(np.concatenate(own))]
    assert float((found.amax(1) - chosen).max()) < 1e-3


@every_pair
def test_gradients_are_those_of_the_plain_loop(family, name, make_backbone, make_task_tokens):
    data, found = tokens.load(make_task_tokens("generation", family)), []
    for tricks in ("plain", "fast"):
        model = adapted(make_backbone(family), name).model.eval()  # without dropout
        generator = torch.Generator().manual_seed(3)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
        engine = an_engine(model, name, tricks)
        assert ("targets" in engine.tricks) == (tricks == "fast")
        loss = loss_of(engine, data)
        loss.backward()
        found.append((float(loss.detach()), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (plain, expected), (fast, gradients) = found
    assert fast == pytest.approx(plain, rel=1e-5) and gradients.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for key, gradient in expected.items():
        assert torch.allclose(gradients[key], gradient, rtol=1e-3, atol=2e-6 * max(1.0, largest)), key


@torch.no_grad()
def test_beams_look_further_than_the_next_token(make_backbone, make_task_tokens):
    """On a model whose words are random they find other texts, as probable by their own measure or more."""
    data = tokens.load(make_task_tokens("generation", "bart"))
    model = adapted(make_backbone("bart"), "full").model
    one, many = (writing.write(model, data, BATCH, LONGEST, beams) for beams in (1, 4))
    assert any(not np.array_equal(a, b) for a, b in zip(one, many, strict=True))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("options", [{"tokens": 5}, {"tokens": 3, "inner": 7}], ids=str)
@torch.no_grad()
def test_an_infix_is_what_a_cache_holds_between_source_and_target(family, options, make_backbone, make_task_tokens):
    """[x; INFIX; y] (Li and Liang, 2021, section 7.3), with the source's end mark as what y begins with."""
    from transformers import DynamicCache

    folder, data = make_backbone(family), tokens.load(make_task_tokens("generation", family))
    method, shape = methods.create("infix", options), backbones.shape_for(folder, TASK)
    infixed = methods.adapt(method, backbones.load(folder, TASK, 0, 1), shape, 1)
    assert infixed.method_parameters == method.count(shape)
    plain, heads = backbones.load(folder, TASK, 0, 1).model, shape.key_width * shape.heads // shape.hidden
    found = writing.target_logits(infixed.model, data, BATCH, 0, all_tokens=True).split(
        np.diff(data.arrays["targets"])[BATCH].tolist()
    )
    for row, (source, target) in enumerate(zip(*writing._pieces(data, BATCH), strict=True)):
        cache = DynamicCache(config=plain.config)
        plain(input_ids=torch.tensor(source[None, :-1]), past_key_values=cache)
        for layer in range(shape.layers):
            own = infixed.model.infix.of(layer).view(2, 1, -1, heads, shape.hidden // shape.heads).transpose(2, 3)
            cache.update(own[0], own[1], layer)
        rest = torch.tensor([[source[-1], *target[:-1]]])
        places = len(source) - 1 + torch.arange(rest.shape[1])[None]
        mask = torch.ones(1, len(source) - 1 + options["tokens"] + rest.shape[1], dtype=torch.long)
        expected = plain(input_ids=rest, past_key_values=cache, position_ids=places, attention_mask=mask).logits[0]
        assert torch.allclose(found[row], expected, rtol=1e-4, atol=1e-4)
        without = plain(input_ids=torch.tensor([[*source, *target[:-1]]])).logits[0, len(source) - 1 :]
        assert (expected - without).abs().max() > 1e-3, "the infix changes nothing"


@torch.no_grad()
def test_a_source_does_not_see_the_infix_and_nobody_guesses_where_it_is(make_backbone):
    model = adapted(make_backbone("gpt2"), "infix").model
    ids = torch.arange(5, 15)[None]
    with pytest.raises(ValueError, match="where that begins"):
        model(input_ids=ids)
    model.infix.begins = torch.tensor([6])
    plain = backbones.load(make_backbone("gpt2"), TASK, 0, 1).model
    found = (model(input_ids=ids).logits - plain(input_ids=ids).logits).abs().amax(-1)[0]
    assert found[:6].max() < 1e-5 < 1e-3 < found[6:].min()


@pytest.mark.parametrize(
    ("family", "words"),
    [("bert", "an encoder writes nothing behind a text"), ("t5", "in two stacks"), ("bart", "in two stacks")],
)
def test_where_an_infix_has_no_place_is_said(family, words):
    assert words in methods.create("infix").skip(planned_shape(family, {}, 300))
    assert "infix" not in methods.able("classification") and "infix" in methods.able("generation")


def test_an_encoder_writes_nothing_and_a_decoder_labels_no_words(make_backbone):
    with pytest.raises(StudyError, match="generation wants a backbone that writes text, and bert is an encoder"):
        backbones.load(make_backbone("bert"), TASK, 0, 0)
    with pytest.raises(StudyError, match="tagging is for encoders"):
        backbones.load(make_backbone("gpt2"), tasks.create("tagging"), 3, 0)
