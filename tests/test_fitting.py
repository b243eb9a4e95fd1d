"""Which tricks fit: by family, by what a method and a task want, and by each other."""

import pytest
import torch

from peftstudy import backbones, devices, tasks
from peftstudy.engine import TRICKS
from peftstudy.tricks import allocation, dropout, embedding_gradients, encoders, frozen_body, fused, products
from peftstudy.tricks.fitting import fitting

ANYWHERE = {"dropout"}
ANYWHERE |= {trick for trick, module in {"memory": allocation, "products": products}.items() if module.possible()}
FUSED = {"fused"} if fused.possible() else set()  # where batches are packed
OF_FAMILIES = {
    ("bert", "classification"): {"packed", "read", "folded"},
    ("roberta", "classification"): {"packed", "read", "folded"},
    ("roberta", "token-classification"): {"packed", "read"},
    ("distilbert", "classification"): {"cut"},
    ("gpt2", "classification"): {"packed", "read"},
    ("gpt2", "generation"): {"packed", "read", "cut", "targets"},
    ("llama", "generation"): {"packed", "read", "cut", "targets"},
    ("t5", "generation"): {"cut", "targets"},
}


@pytest.fixture
def a_model(make_backbone):
    """Return a function that loads a tiny backbone of a family for a task."""
    return lambda family, task="classification": backbones.load(make_backbone(family), tasks.create(task), 3, 0).model


def frozen(model):
    """Leave the head alone to be trained, and no dropout in the body."""
    for part in frozen_body.parts(model):
        part.requires_grad_(False)
    dropout.stop(frozen_body.parts(model))
    return model


@pytest.mark.parametrize(("family", "task"), OF_FAMILIES)
def test_what_fits_a_family_and_a_task(family, task, a_model):
    found = fitting(a_model(family, task), TRICKS, reads_first=tasks.create(task).reads_first)
    fits = OF_FAMILIES[family, task]
    assert found == ANYWHERE | fits | (FUSED if "packed" in fits else set())


@pytest.mark.parametrize(
    ("left_out", "with_it"),
    [("packed", {"read", "folded", "cached"} | FUSED), ("read", {"folded"}), ("dropout", FUSED)],
)
def test_a_trick_goes_with_the_one_it_needs(left_out, with_it, a_model):
    model = frozen(a_model("bert"))
    every, fewer = fitting(model, TRICKS), fitting(model, TRICKS.keys() - {left_out})
    assert every - fewer == {left_out} | with_it
    assert fewer - every == ({"cut"} if left_out == "packed" else set())


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_attention_that_a_method_changes_is_left_alone(family, a_model):
    assert fitting(a_model(family), TRICKS, plain_attention=False) == ANYWHERE | {"cut"}


def test_a_prompt_before_the_text_is_packed_by_encoders_alone(a_model):
    assert "packed" in fitting(a_model("bert"), TRICKS, extra_tokens=4)
    assert "packed" not in fitting(a_model("gpt2"), TRICKS, extra_tokens=4)
    assert "cached" not in fitting(frozen(a_model("bert")), TRICKS, extra_tokens=4)


def test_gradients_of_large_embeddings_that_train_are_kept_on_one_device(a_model, monkeypatch):
    assert "embeddings" not in fitting(a_model("bert"), TRICKS)
    monkeypatch.setattr(embedding_gradients, "LARGE", 1)
    assert "embeddings" in fitting(a_model("bert"), TRICKS)
    assert "embeddings" not in fitting(frozen(a_model("bert")), TRICKS)
    monkeypatch.setattr(devices, "count", lambda: 2)
    assert "embeddings" not in fitting(a_model("bert"), TRICKS)


def test_keys_and_values_that_a_method_changes_are_not_folded(a_model):
    model = a_model("bert")
    assert "folded" in fitting(model, TRICKS)
    attention = encoders.attentions(model)[-1].self
    attention.value = torch.nn.Sequential(attention.value)
    assert "folded" not in fitting(model, TRICKS)


@pytest.mark.skipif(not fused.possible(), reason="no C compiler here, and nothing compiled before")
def test_heads_that_are_no_whole_vectors_and_double_precision_are_left_to_the_operators(a_model):
    model = a_model("bert")
    assert "fused" in fitting(model, TRICKS)
    model.config.num_attention_heads *= 2  # of 8 numbers each
    assert "fused" not in fitting(model, TRICKS)
    assert "fused" not in fitting(a_model("bert").double(), TRICKS)


def test_what_is_not_asked_for_is_not_compiled(a_model, monkeypatch):
    monkeypatch.setattr(fused, "possible", lambda: pytest.fail("compiled"))
    assert "packed" in fitting(a_model("bert"), TRICKS.keys() - {"fused"})


def test_several_devices_share_weights(a_model, monkeypatch):
    model = frozen(a_model("bert"))
    one = fitting(model, TRICKS)
    monkeypatch.setattr(devices, "count", lambda: 2)
    assert one - fitting(model, TRICKS) == {"cached"}
    assert "packed" not in fitting(a_model("gpt2"), TRICKS)


def test_what_is_the_processors_stays_there(a_model):
    elsewhere = a_model("bert").to(torch.device("meta"))
    assert fitting(elsewhere, TRICKS) == {"packed", "read", "folded"}


def test_nothing_is_used_that_was_not_asked_for(a_model):
    assert fitting(a_model("gpt2"), ()) == set()
    assert fitting(a_model("gpt2"), {"dropout"}) == {"dropout"}
