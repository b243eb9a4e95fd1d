import copy
import dataclasses

import made_tasks
import numpy as np
import pytest
import torch
from conftest import made_texts
from transformers import AutoModelForMaskedLM, AutoTokenizer

from peftstudy import (
    backbones,
    corpora,
    corruption,
    engine,
    examples,
    methods,
    objectives,
    pretraining,
    scoring,
    tasks,
    tokens,
    training,
    writing,
)
from peftstudy.checkpoints import Checkpoints
from peftstudy.errors import StudyError
from peftstudy.families import ENCODERS, FAMILIES, WRITERS
from peftstudy.shapes import planned_shape
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


def settings_of(family):
    """T5's vocabulary holds a hundred sentinels beside bytes and words."""
    vocabulary = 400 if family == "t5" else 280
    return dataclasses.replace(SETTINGS, family=family, tokenizer=(("vocabulary", vocabulary),))


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


def test_a_loss_that_is_not_finite_ends_it_at_once(corpus):
    settings = dataclasses.replace(SETTINGS, steps=1000, learning_rate=1e30)
    with pytest.raises(StudyError, match=r"the loss is not finite after \d{1,2} steps; lower pretrain.learning_rate"):
        pretraining.pretrain(settings, corpus, None, CPU)


@pytest.mark.parametrize("family", ENCODERS)
@pytest.mark.parametrize("tricks", ["fast", "plain"])
@pytest.mark.parametrize(("bag_of_words", "at_a_time"), [(0.0, 2**23), (0.5, 2**23), (0.5, 3 * 280)])
def test_scoring_a_few_tokens_alone_changes_no_gradient(corpus, family, tricks, bag_of_words, at_a_time, monkeypatch):
    """The library scores every position at once, and passes over those that are not hidden."""
    monkeypatch.setitem(objectives.LOGITS, "cpu", at_a_time)
    monkeypatch.setattr(embedding_gradients, "LARGE", 1)
    settings = dataclasses.replace(SETTINGS, steps=1, family=family, bag_of_words=bag_of_words)
    trained = pretraining.pretrain(settings, corpus, None, CPU)
    library = AutoModelForMaskedLM.from_config(trained.model.config).eval()
    model = copy.deepcopy(library)
    objective = objectives.create(engine.Engine(model, tricks, 0), trained.tokenizer, settings)
    special = objective.special
    ids = np.random.default_rng(0).integers(5, 280, (4, 16))
    ids[:, 0], ids[:, -1] = special["cls"], special["sep"]
    for _ in range(2):  # for what a first step may leave behind
        model.zero_grad()
        loss = objective.add_gradients(ids, np.random.default_rng(7))
    assert loss == pytest.approx(objective.loss(ids, np.random.default_rng(7)), rel=1e-6)
    ours = torch.cat([p.grad.ravel() for p in model.parameters()])
    hidden, chosen = corruption.mask_tokens(ids, np.random.default_rng(7), special, 280)
    labels = torch.from_numpy(np.where(chosen, ids, -100))
    out = library(input_ids=torch.from_numpy(hidden), labels=labels)
    bags = objectives.bag_of_words_loss(out.logits[:, 0], ids, special.values())
    (out.loss + bag_of_words * bags / len(ids)).backward()
    theirs = torch.cat([p.grad.ravel() for p in library.parameters()])
    assert torch.allclose(ours, theirs, atol=1e-6) and theirs.abs().max() > 1e-2
    assert loss == pytest.approx(out.loss.item(), rel=1e-5)


def test_a_batch_without_a_hidden_token_has_no_loss(corpus, monkeypatch):
    trained = pretraining.pretrain(dataclasses.replace(SETTINGS, steps=1), corpus, None, CPU)
    objective = pretraining.PretrainingRun(trained.model, trained.tokenizer, SETTINGS).objective
    monkeypatch.setattr(corruption, "mask_tokens", lambda ids, *rest: (ids, np.zeros(ids.shape, bool)))
    assert objective.add_gradients(np.full((2, 8), 9), np.random.default_rng(0)) == 0.0
    assert all(p.grad is None or p.grad.isfinite().all() for p in trained.model.parameters())


def test_the_loss_of_a_bag_of_words():
    """Against its definition, block by block: means over the distinct words, special tokens left out."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 10, generator=generator)
    ids = np.array([[1, 7, 5, 7, 2], [1, 9, 2, 8, 2]])
    bags = [[5, 7], [8, 9]]
    expected = np.sum([-logits[row].log_softmax(-1)[bag].mean().item() for row, bag in enumerate(bags)])
    assert objectives.bag_of_words_loss(logits, ids, [1, 2]).item() == pytest.approx(expected, rel=1e-6)
    assert objectives.bag_of_words_loss(logits[:1], np.array([[1, 2]]), [1, 2]).item() == 0.0


def test_a_validation_part_that_is_too_small_is_told_before_the_training(corpus, monkeypatch):
    monkeypatch.setattr(pretraining.PretrainingRun, "fit", lambda *_: pytest.fail("trained before it was told"))
    settings = dataclasses.replace(SETTINGS, validation=0.01, max_tokens=1000)
    with pytest.raises(
        StudyError, match=r"^pretrain.validation: found 0.01, .* less than one block of 16 tokens; raise"
    ):
        pretraining.pretrain(settings, corpus, None, CPU)


@pytest.mark.parametrize("family", ["bert", *WRITERS])
def test_an_interrupted_training_ends_with_the_same_weights(family, corpus, tmp_path, monkeypatch):
    settings = dataclasses.replace(settings_of(family), validation=0.1)
    whole = pretraining.pretrain(settings, corpus, None, CPU)
    monkeypatch.setattr(pretraining, "CHECKPOINT_SECONDS", 0)
    add, calls = objectives.Objective.add_gradients, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return add(*arguments)

    monkeypatch.setattr(objectives.Objective, "add_gradients", failing)
    with pytest.raises(KeyboardInterrupt):
        pretraining.pretrain(settings, corpus, tmp_path / "checkpoint.pt", CPU)
    resumed = pretraining.pretrain(settings, corpus, tmp_path / "checkpoint.pt", CPU)
    assert len(calls) == 30 + 60 - 29
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert resumed.about | {"seconds": 0} == whole.about | {"seconds": 0}


def test_a_checkpoint_is_of_one_corpus(corpus, tmp_path, monkeypatch):
    """Two that differ in a block alone have checkpoints of their own."""
    keys = []
    monkeypatch.setattr(pretraining, "Checkpoints", lambda path, key, seconds: keys.append(key) or Checkpoints())
    blocks = []
    monkeypatch.setattr(pretraining.PretrainingRun, "fit", lambda run, found, kept: blocks.append(len(found)))
    monkeypatch.setattr(pretraining.PretrainingRun, "loss", 0.0, raising=False)
    texts = list(corpus)
    tokenizer = pretraining._tokenizer(settings_of("bert"), texts)
    monkeypatch.setattr(pretraining, "_tokenizer", lambda *given: tokenizer)
    for changed in (texts, texts, [*texts[:-2], texts[-1], texts[-2]]):
        pretraining.pretrain(settings_of("bert"), changed, tmp_path / "x.pt", torch.device("cpu"))
    assert len(set(blocks)) == 1 and keys[0] == keys[1] != keys[2]


def test_every_block_is_seen_once_a_pass():
    blocks = np.arange(48).reshape(48, 1)
    seen = np.concatenate([pretraining._block_batch(blocks, SETTINGS, step) for step in range(6)]).ravel()
    assert sorted(seen[:48]) == sorted(seen[48:]) == list(range(48))
    assert not np.array_equal(seen[:48], seen[48:])


@pytest.mark.parametrize("family", WRITERS)
def test_models_that_write_learn_the_objective_of_their_family(family, corpus):
    settings = dataclasses.replace(settings_of(family), validation=0.1)
    trained = pretraining.pretrain(settings, corpus, None, CPU)
    about, vocabulary = trained.about, dict(settings.tokenizer)["vocabulary"]
    assert about["objective"] == FAMILIES[family].objective
    assert about["loss"] < 0.8 * np.log(vocabulary) and about["validation_loss"] < 0.8 * np.log(vocabulary)
    assert about["loss"] != about["validation_loss"] and 0 < about["validation_tokens"] < 0.2 * about["corpus_tokens"]


@pytest.mark.parametrize("family", WRITERS)
def test_parts_add_up_to_the_library_s_own_loss(family, corpus, monkeypatch):
    """Its loss is over all tokens that are to be predicted, each as much as the others."""
    settings = dataclasses.replace(settings_of(family), steps=1)
    trained = pretraining.pretrain(settings, corpus, None, CPU)
    model, tokenizer = trained.model.eval(), trained.tokenizer
    objective = objectives.create(engine.Engine(model, "fast", 0), tokenizer, settings)
    ids = corpora.blocks(corpus, tokenizer, corpora.frame(family, tokenizer), 16, None)[:5]
    monkeypatch.setattr(objectives, "PART", 2 * objective.asked(ids, np.random.default_rng(7))[1].shape[1])
    model.zero_grad()
    assert len(list(objective.parts(ids, np.random.default_rng(7)))) == 3
    found = objective.add_gradients(ids, np.random.default_rng(7))
    ours = torch.cat([p.grad.ravel() for p in model.parameters()])
    inputs, targets = objective.asked(ids, np.random.default_rng(7))
    model.zero_grad()
    if FAMILIES[family].kind == "decoder":
        whole = torch.from_numpy(ids).long()
        loss = model(input_ids=whole, labels=whole).loss
    else:
        loss = model(**writing.padded(inputs, tokenizer.pad_token_id), labels=torch.from_numpy(targets).long()).loss
    loss.backward()
    theirs = torch.cat([p.grad.ravel() for p in model.parameters()])
    assert found == pytest.approx(float(loss.detach()), rel=1e-5)
    assert torch.allclose(ours, theirs, atol=1e-5) and theirs.abs().max() > 1e-2


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_bfloat16_is_near_float32(family, corpus):
    losses = [
        pretraining.pretrain(
            dataclasses.replace(settings_of(family), steps=5, precision=precision, validation=0.1), corpus, None, CPU
        ).about["validation_loss"]
        for precision in ("float32", "bfloat16")
    ]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.02)


def test_tokenizers_that_span_corruption_cannot_work_with_are_refused(corpus, tmp_path):
    corpora.train_tokenizer("gpt2", corpus, 280, 64).save_pretrained(tmp_path)
    settings = dataclasses.replace(settings_of("t5"), tokenizer=(("folder", str(tmp_path)),), steps=1)
    with pytest.raises(StudyError, match=r"has 0 sentinels .* wants 2"):
        pretraining.pretrain(settings, corpus, None, CPU)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(StudyError, match="without which t5 knows no marks"):
        pretraining.pretrain(settings, corpus, None, CPU)


def test_nothing_is_dropped_in_pre_training_and_rates_are_kept_for_later(corpus):
    for family in FAMILIES:
        trained = pretraining.pretrain(dataclasses.replace(settings_of(family), steps=1), corpus, None, CPU)
        ids = torch.arange(5, 17)[None]
        inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if FAMILIES[family].kind == "encoder-decoder" else {})
        one, other = (trained.model.train()(**inputs).logits for _ in range(2))
        assert torch.equal(one, other), family
        rates = [rate for name, rate in trained.model.config.to_dict().items() if "drop" in name]
        assert any(rates) or family in ("llama", "modernbert"), f"{family} has none of its own"


@pytest.mark.parametrize("family", WRITERS)
def test_a_pre_trained_writer_is_adapted_to_classes_and_to_texts(family, corpus, tmp_path):
    settings = settings_of(family)
    trained = pretraining.pretrain(settings, corpus, None, CPU)
    trained.model.save_pretrained(tmp_path / "backbone")
    trained.tokenizer.save_pretrained(tmp_path / "backbone")
    shape = backbones.read_shape(tmp_path / "backbone")
    backbones.check_tokenizer(tmp_path / "backbone", shape)
    assert shape == planned_shape(family, dict(settings.shape), dict(settings.tokenizer)["vocabulary"])
    table = made_tasks.write_table(tmp_path, made_tasks.table())
    for name in ("classification", "generation"):
        found, report = examples.read_examples(made_tasks.dataset(name), table, 0)
        examples.write_examples(found, report, tmp_path / name)
        tokens.write(tmp_path / name / "examples.parquet", tmp_path / "backbone", 24, tmp_path / name / "tokens")
        data, task, method = tokens.load(tmp_path / name / "tokens"), tasks.create(name), methods.create("full")
        loaded = backbones.load(tmp_path / "backbone", task, 3, 0)
        adapted = methods.adapt(method, loaded, backbones.shape_for(tmp_path / "backbone", task), 0)
        run = training.Run(adapted.model, method, task, Training(epochs=4, batch_size=16, learning_rate=1e-2), 0)
        history = run.fit(data, np.arange(100), np.arange(100, 120), Checkpoints()).history
        assert history[-1].training_loss < history[0].training_loss - 0.05


def head_only_accuracy(folder, made):
    """Train the head alone on half of the texts; return its accuracy on the other half, a mean over seeds."""
    found = tokens.encode(made, AutoTokenizer.from_pretrained(folder), 24)
    found.about["labels"] = ["apple", "stone", "river"]
    task, method, shape = tasks.create("classification"), methods.create("head"), backbones.read_shape(folder)
    half, scores = len(made) // 2, []
    for seed in range(3):
        adapted = methods.adapt(method, backbones.load(folder, task, 3, seed), shape, seed)
        settings = Training(epochs=15, batch_size=16, learning_rate=1e-2, select="last")
        run = training.Run(adapted.model, method, task, settings, seed)
        run.fit(found, np.arange(half), np.arange(0), Checkpoints())
        scored = scoring.evaluate(run.engine, task, found, np.arange(half, len(made)), "float32")
        scores.append(scored.scores["accuracy"])
    return np.mean(scores)


def test_pre_training_helps_a_frozen_body(tmp_path):
    """The words of a class stand together, so a model that has read many texts tells the classes apart."""
    settings = dataclasses.replace(SETTINGS, steps=500, batch_size=32, tokenizer=(("vocabulary", 140),))
    trained = pretraining.pretrain(settings, made_texts(3000, seed=1, own_words=6)["text"].tolist(), None, CPU)
    trained.model.save_pretrained(tmp_path / "trained")
    trained.tokenizer.save_pretrained(tmp_path / "trained")
    backbones.randomise(tmp_path / "trained", tmp_path / "random", seed=0)
    made = made_texts(240, own_words=6)
    scores = [head_only_accuracy(tmp_path / name, made) for name in ("trained", "random")]
    assert scores[0] > scores[1] + 0.1
