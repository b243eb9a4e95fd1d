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

TASK = tasks.create("generation")
BATCH = np.array([3, 17, 40, 41, 66, 90])
STEPS, LONGEST = 25, 8
A_FEW = ("houlsby", "lora", "loreft", "prefix", "prompt")
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


def test_an_encoder_writes_nothing_and_a_decoder_labels_no_words(make_backbone):
    with pytest.raises(StudyError, match="generation wants a backbone that writes text, and bert is an encoder"):
        backbones.load(make_backbone("bert"), TASK, 0, 0)
    with pytest.raises(StudyError, match="tagging is for encoders"):
        backbones.load(make_backbone("gpt2"), tasks.create("tagging"), 3, 0)
