"""Texts that models write: beams, infixes, and who writes none; what methods must keep to is in test_contract."""

import numpy as np
import pytest
import torch

from peftstudy import backbones, methods, tasks, tokens, writing
from peftstudy.errors import StudyError
from peftstudy.shapes import planned_shape

TASK = tasks.create("generation")
BATCH = np.array([3, 17, 40, 41, 66, 90])
LONGEST = 8


def adapted(folder, name, seed=1):
    method = methods.create(name)
    loaded = backbones.load(folder, TASK, 0, seed, method.attention)
    return methods.adapt(method, loaded, backbones.shape_for(folder, TASK), seed)


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
