import copy
import dataclasses

import numpy as np
import pytest
import torch
from conftest import made_texts
from transformers import AutoModelForMaskedLM, AutoTokenizer

from peftstudy import backbones, engine, methods, pretraining, tasks, tokens, training
from peftstudy.checkpoints import Checkpoints
from peftstudy.families import ENCODERS
from peftstudy.specs import Pretraining, Training
from peftstudy.tricks import embedding_gradients

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


@pytest.mark.parametrize("family", ENCODERS)
def test_it_lowers_the_loss_and_leaves_an_ordinary_model(family, corpus, tmp_path):
    settings = dataclasses.replace(SETTINGS, family=family)
    trained = pretraining.pretrain(settings, corpus, None, CPU)
    assert trained.about["loss"] < 0.8 * np.log(280)
    trained.model.save_pretrained(tmp_path)
    trained.tokenizer.save_pretrained(tmp_path)
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer([f"the old {tokenizer.mask_token} was here"], return_tensors="pt")
    assert model(**batch).logits.shape == (1, batch["input_ids"].shape[1], 280)


@pytest.mark.parametrize("family", ENCODERS)
@pytest.mark.parametrize("tricks", ["fast", "plain"])
@pytest.mark.parametrize("bag_of_words", [0.0, 0.5])
def test_scoring_a_few_tokens_alone_changes_no_gradient(corpus, family, tricks, bag_of_words, monkeypatch):
    """The library scores every position and passes over those that are not hidden."""
    monkeypatch.setattr(embedding_gradients, "LARGE", 1)
    settings = dataclasses.replace(SETTINGS, steps=1, family=family, bag_of_words=bag_of_words)
    trained = pretraining.pretrain(settings, corpus, None, CPU)
    library = AutoModelForMaskedLM.from_config(trained.model.config).eval()
    run = pretraining.MaskedRun(copy.deepcopy(library), trained.tokenizer, settings)
    run.model = copy.deepcopy(library)
    run.engine = engine.Engine(run.model, tricks, 0)
    model, special = run.model, run.special
    ids = np.random.default_rng(0).integers(5, 280, (4, 16))
    ids[:, 0], ids[:, -1] = special["cls"], special["sep"]
    for _ in range(2):  # for what a first step may leave behind
        model.zero_grad()
        pretraining.add_gradients(run, ids)
    ours = torch.cat([p.grad.ravel() for p in model.parameters()])
    rng = np.random.default_rng([SETTINGS.seed, 1, 0])
    hidden, chosen = pretraining.corpora.mask_tokens(ids, rng, special, 280)
    labels = torch.from_numpy(np.where(chosen, ids, -100))
    out = library(input_ids=torch.from_numpy(hidden), labels=labels)
    bags = pretraining.bag_of_words_loss(out.logits[:, 0], ids, special.values())
    (out.loss + bag_of_words * bags).backward()
    theirs = torch.cat([p.grad.ravel() for p in library.parameters()])
    assert torch.allclose(ours, theirs, atol=1e-6) and theirs.abs().max() > 1e-2


def test_a_batch_without_a_hidden_token_has_no_loss(corpus, monkeypatch):
    trained = pretraining.pretrain(dataclasses.replace(SETTINGS, steps=1), corpus, None, CPU)
    run = pretraining.MaskedRun(trained.model, trained.tokenizer, SETTINGS)
    monkeypatch.setattr(pretraining.corpora, "mask_tokens", lambda ids, *rest: (ids, np.zeros(ids.shape, bool)))
    assert pretraining.add_gradients(run, np.full((2, 8), 9)) == 0.0
    assert all(p.grad is None or p.grad.isfinite().all() for p in run.model.parameters())


def test_the_loss_of_a_bag_of_words():
    """Against its definition, block by block: the mean over the distinct words, special tokens left out."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 10, generator=generator)
    ids = np.array([[1, 7, 5, 7, 2], [1, 9, 2, 8, 2]])
    bags = [[5, 7], [8, 9]]
    expected = np.mean([-logits[row].log_softmax(-1)[bag].mean().item() for row, bag in enumerate(bags)])
    assert pretraining.bag_of_words_loss(logits, ids, [1, 2]).item() == pytest.approx(expected, rel=1e-6)
    assert pretraining.bag_of_words_loss(logits[:1], np.array([[1, 2]]), [1, 2]).item() == 0.0


def test_an_interrupted_training_ends_with_the_same_weights(corpus, tmp_path, monkeypatch):
    whole = pretraining.pretrain(SETTINGS, corpus, None, CPU)
    monkeypatch.setattr(pretraining, "CHECKPOINT_SECONDS", 0)
    add, calls = pretraining.add_gradients, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return add(*arguments)

    monkeypatch.setattr(pretraining, "add_gradients", failing)
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


def head_only_accuracy(folder, examples):
    """Train the head alone on half of the texts; return its accuracy on the other half, a mean over seeds."""
    found = tokens.encode(examples, AutoTokenizer.from_pretrained(folder), 24)
    found.about["labels"] = ["apple", "stone", "river"]
    task, method, shape = tasks.create("classification"), methods.create("head"), backbones.read_shape(folder)
    half, scores = len(examples) // 2, []
    for seed in range(3):
        adapted = methods.adapt(method, backbones.load(folder, task, 3, seed), shape, seed)
        settings = Training(epochs=15, batch_size=16, learning_rate=1e-2, select="last")
        run = training.Run(adapted.model, method, task, settings, seed)
        run.fit(found, np.arange(half), np.arange(0), Checkpoints())
        scored = training.evaluate(run.engine, task, found, np.arange(half, len(examples)), "float32")
        scores.append(scored.scores["accuracy"])
    return np.mean(scores)


def test_pre_training_helps_a_frozen_body(tmp_path):
    """The words of a class stand together, so a model that has read many texts tells the classes apart."""
    settings = dataclasses.replace(SETTINGS, steps=500, batch_size=32, tokenizer=(("vocabulary", 140),))
    trained = pretraining.pretrain(settings, made_texts(3000, seed=1, own_words=6)["text"].tolist(), None, CPU)
    trained.model.save_pretrained(tmp_path / "trained")
    trained.tokenizer.save_pretrained(tmp_path / "trained")
    backbones.randomise(tmp_path / "trained", tmp_path / "random", seed=0)
    examples = made_texts(240, own_words=6)
    scores = [head_only_accuracy(tmp_path / name, examples) for name in ("trained", "random")]
    assert scores[0] > scores[1] + 0.1
