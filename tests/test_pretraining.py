import dataclasses

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from peftstudy import pretraining
from peftstudy.specs import Pretraining

SETTINGS = Pretraining(
    family="bert",
    shape=(
        ("hidden_size", 32), ("intermediate_size", 64), ("max_position_embeddings", 64),
        ("num_attention_heads", 2), ("num_hidden_layers", 2),
    ),
    tokenizer=(("vocabulary", 280),),
    corpus=(),
    steps=60,
    batch_size=16,
    block_length=16,
    learning_rate=5e-3,
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(texts):
    return texts["text"].tolist() * 2


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_it_lowers_the_loss_and_leaves_an_ordinary_model(family, corpus, tmp_path):
    settings = dataclasses.replace(SETTINGS, family=family)
    trained = pretraining.pretrain(settings, corpus, None, CPU)
    assert trained.about["loss"] < 0.8 * np.log(280)
    trained.model.save_pretrained(tmp_path)
    trained.tokenizer.save_pretrained(tmp_path)
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer([f"the old {tokenizer.mask_token} was here"], return_tensors="pt")
    assert model(**batch).logits.shape == (1, batch["input_ids"].shape[1], 280)


def test_scoring_hidden_tokens_alone_changes_no_gradient(corpus):
    """The library scores every position and passes over those that are not hidden."""
    trained = pretraining.pretrain(dataclasses.replace(SETTINGS, steps=1), corpus, None, CPU)
    model, special = trained.model.eval(), {"cls": 2, "sep": 3, "pad": 0, "mask": 4}
    ids = np.random.default_rng(0).integers(5, 280, (4, 16))
    ids[:, 0], ids[:, -1] = 2, 3
    model.zero_grad()
    pretraining._step(model, ids, special, SETTINGS, 0)
    ours = torch.cat([p.grad.ravel() for p in model.parameters()])
    model.zero_grad()
    rng = np.random.default_rng([SETTINGS.seed, 1, 0])
    hidden, chosen = pretraining.corpora.mask_tokens(ids, rng, special, 280)
    labels = torch.from_numpy(np.where(chosen, ids, -100))
    model(input_ids=torch.from_numpy(hidden), labels=labels).loss.backward()
    theirs = torch.cat([p.grad.ravel() for p in model.parameters()])
    assert torch.allclose(ours, theirs, atol=1e-6) and theirs.abs().max() > 1e-2


def test_an_interrupted_training_ends_with_the_same_weights(corpus, tmp_path, monkeypatch):
    whole = pretraining.pretrain(SETTINGS, corpus, None, CPU)
    monkeypatch.setattr(pretraining, "CHECKPOINT_SECONDS", 0)
    step, calls = pretraining._step, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(pretraining, "_step", failing)
    with pytest.raises(KeyboardInterrupt):
        pretraining.pretrain(SETTINGS, corpus, tmp_path / "checkpoint.pt", CPU)
    resumed = pretraining.pretrain(SETTINGS, corpus, tmp_path / "checkpoint.pt", CPU)
    assert len(calls) == 30 + 60 - 29
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert resumed.about["loss"] == whole.about["loss"]


def test_every_block_is_seen_once_a_pass():
    blocks = np.arange(48).reshape(48, 1)
    seen = np.concatenate([pretraining._block_batch(blocks, SETTINGS, step) for step in range(6)]).ravel()
    assert sorted(seen[:48]) == sorted(seen[48:]) == list(range(48))
    assert not np.array_equal(seen[:48], seen[48:])
