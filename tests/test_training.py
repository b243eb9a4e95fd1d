import dataclasses
import tracemalloc

import numpy as np
import pytest
import torch

from peftstudy import backbones, methods, plans, scoring, tasks, tokens, training
from peftstudy.checkpoints import Checkpoints
from peftstudy.families import FAMILIES
from peftstudy.provenance import peak_memory_bytes, reset_peak_memory
from peftstudy.specs import Training

SETTINGS = Training(epochs=2, batch_size=16, micro_batch_size=4, learning_rate=3e-3)
TRAIN, VALIDATION = np.arange(0, 96), np.arange(96, 144)


def a_run(folder, settings=SETTINGS, seed=0, method="full", dropout=True):
    task = tasks.create("classification")
    adaptation = methods.create(method)
    loaded = backbones.load(folder, task, 3, seed, adaptation.attention)
    adapted = methods.adapt(adaptation, loaded, backbones.read_shape(folder), seed)
    if not dropout:
        for module in adapted.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            elif hasattr(module, "dropout_prob"):
                module.dropout_prob = 0.0
    torch.manual_seed(seed)
    return training.Run(adapted.model, adaptation, task, settings, seed)


def weights(progress):
    return {name: tensor.clone() for name, tensor in progress.best.items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def without_seconds(progress):
    return [
        {k: v for k, v in dataclasses.asdict(row).items() if not k.endswith("_seconds")} for row in progress.history
    ]


def test_the_same_seed_gives_the_same_weights_bit_for_bit(bert, data):
    one, again, other = (a_run(bert, seed=seed).fit(data, TRAIN, VALIDATION, Checkpoints()) for seed in (0, 0, 1))
    assert same(weights(one), weights(again))
    assert without_seconds(one) == without_seconds(again)
    assert not same(weights(one), weights(other))


def test_it_learns_what_can_be_learned(bert, data):
    settings = dataclasses.replace(SETTINGS, epochs=50, learning_rate=3e-3)
    history = a_run(bert, settings).fit(data, TRAIN, VALIDATION, Checkpoints()).history
    assert history[-1].training_loss < 0.3 < history[0].training_loss
    assert history[-1].validation_score > 0.8


def test_a_run_that_stops_and_goes_on_ends_with_the_same_numbers(bert, data, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=4)
    whole = a_run(bert, settings).fit(data, TRAIN, VALIDATION, Checkpoints())

    class Stop(Exception):
        pass

    def stop(model, epoch):
        if epoch == 3:
            raise Stop

    keep = Checkpoints(tmp_path / "checkpoint.pt", "key", seconds=0)
    with pytest.raises(Stop):
        a_run(bert, settings).fit(data, TRAIN, VALIDATION, keep, stop)
    resumed = a_run(bert, settings)
    torch.manual_seed(99)  # what the generator held before is no matter: the checkpoint holds it
    progress = resumed.fit(data, TRAIN, VALIDATION, Checkpoints(tmp_path / "checkpoint.pt", "key"))
    assert same(weights(whole), weights(progress))
    assert without_seconds(whole) == without_seconds(progress)
    assert progress.chosen_epoch == whole.chosen_epoch
    assert progress.examples_seen == whole.examples_seen


def test_what_a_checkpoint_takes_to_be_read_is_no_memory_of_the_run(bert, data, tmp_path):
    if not reset_peak_memory():
        pytest.skip("this system does not reset the peak")
    keep = Checkpoints(tmp_path / "checkpoint.pt", "key", seconds=0)
    a_run(bert).fit(data, TRAIN, VALIDATION, keep)
    resumed = a_run(bert)
    keep.restore(resumed)
    before, device = resumed.progress.peaks
    assert before > 10**8 and device == 0
    bytearray(3 * 10**8)
    assert peak_memory_bytes() > before + 10**8
    resumed = a_run(bert, dataclasses.replace(SETTINGS, epochs=3))
    resumed.fit(data, TRAIN, VALIDATION, keep)
    assert before <= resumed.peaks()[0] < before + 10**8


def test_a_checkpoint_is_not_whole_in_memory_beside_what_it_holds(tmp_path):
    class Large:
        device = torch.device("cpu")

        def state(self):
            return {"weights": torch.arange(5e6)}

        def restore(self, state):
            self.found = state["weights"]

    run, keep = Large(), Checkpoints(tmp_path / "checkpoint.pt", "key", seconds=0)
    keep.save(run, 1)
    tracemalloc.start()
    assert keep.restore(run)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert torch.equal(run.found, torch.arange(5e6)) and peak < 5e6 < run.found.nbytes


def test_a_run_that_goes_on_by_other_tricks_says_so(bert, data, tmp_path, caplog):
    keep = Checkpoints(tmp_path / "checkpoint.pt", "key", seconds=0)
    begun = a_run(bert)
    begun.fit(data, TRAIN, VALIDATION, keep)
    resumed = a_run(bert, dataclasses.replace(SETTINGS, engine=("packed", "dropout")))
    keep.restore(resumed)
    assert resumed.progress.engine == f"{begun.engine.name}, dropout+packed"
    assert "numbers differ" in caplog.text


def test_a_checkpoint_of_another_run_is_passed_over(bert, data, tmp_path):
    keep = Checkpoints(tmp_path / "checkpoint.pt", "one", seconds=0)
    a_run(bert).fit(data, TRAIN, VALIDATION, keep)
    run = a_run(bert)
    Checkpoints(tmp_path / "checkpoint.pt", "other").restore(run)
    assert run.progress.epoch == 0


def test_a_damaged_checkpoint_is_passed_over(bert, data, tmp_path, caplog):
    path = tmp_path / "checkpoint.pt"
    a_run(bert).fit(data, TRAIN, VALIDATION, Checkpoints(path, "key", seconds=0))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    run = a_run(bert)
    Checkpoints(path, "key").restore(run)
    assert run.progress.epoch == 0
    assert "a damaged checkpoint" in caplog.text
    path.write_bytes(content[:10])
    Checkpoints(path, "key").restore(run)
    assert run.progress.epoch == 0


@pytest.mark.parametrize("method", ["full", "prefix"])
def test_micro_batches_give_the_gradient_of_the_whole_batch(bert, data, method):
    """Also those that the engine makes of a padded batch (prefix)."""
    gradients = []
    for changes in ({"micro_batch_size": 3}, {"micro_batch_size": 16}, {"micro_batch_size": 16, "engine": "plain"}):
        run = a_run(bert, dataclasses.replace(SETTINGS, **changes), method=method, dropout=False)
        run.optimizer.step = lambda: None
        run.optimizer.zero_grad = lambda: None
        run.model.train()
        run._step(data, TRAIN[:16], plans.Plan.of(SETTINGS, 96))
        gradients.append(torch.cat([p.grad.ravel() for p in run.parameters]))
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
    assert torch.allclose(gradients[1], gradients[2], atol=1e-6)
    assert gradients[0].abs().max() > 1e-3


def test_the_best_epoch_by_validation_is_kept_and_the_last_one_when_asked(bert, data):
    settings = dataclasses.replace(SETTINGS, epochs=6)
    best = a_run(bert, settings).fit(data, TRAIN, VALIDATION, Checkpoints())
    scores = [row.validation_score for row in best.history]
    assert best.chosen_epoch == scores.index(max(scores)) + 1
    run = a_run(bert, dataclasses.replace(settings, select="last"))
    last = run.fit(data, TRAIN, VALIDATION[:0], Checkpoints())
    assert last.chosen_epoch == 6
    assert last.history[0].validation_score is None
    assert same(weights(last), methods.trained_state(run.model))


def test_kept_weights_score_as_the_history_says(bert, data):
    run = a_run(bert, dataclasses.replace(SETTINGS, epochs=5))
    progress = run.fit(data, TRAIN, VALIDATION, Checkpoints())
    methods.load_trained(run.model, progress.best)
    scored = scoring.evaluate(run.engine, run.task, data, VALIDATION, "float32")
    assert scored.scores["accuracy"] == progress.history[progress.chosen_epoch - 1].validation_score


def test_a_head_learns_from_states_of_the_precision_that_it_is_scored_in(bert, data):
    asked = dataclasses.replace(SETTINGS, dropout_in_frozen_body=False, precision="bfloat16")
    runs = {
        name: a_run(bert, dataclasses.replace(asked, precision=name), method="head") for name in ("bfloat16", "float32")
    }
    for run in runs.values():
        run.fit(data, TRAIN, VALIDATION, Checkpoints())
    found = {name: run.engine._frozen._of(data, TRAIN) for name, run in runs.items()}
    with torch.autocast("cpu", torch.bfloat16):
        (again := a_run(bert, asked, method="head").engine).see(data, TRAIN)
    assert torch.equal(found["bfloat16"], again._frozen._of(data, TRAIN))
    assert not torch.equal(found["bfloat16"], found["float32"])


@pytest.mark.parametrize("has_instructions", [True, False])
def test_a_processor_without_instructions_for_bfloat16_is_told_of_once(monkeypatch, caplog, has_instructions):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_instructions, raising=False)
    scoring._tell_of_detours.cache_clear()
    for precision in ("float32", "bfloat16", "bfloat16"):
        scoring.autocast(torch.device("cpu"), precision)
    assert len(caplog.messages) == (0 if has_instructions else 1)
    assert all("no instructions for bfloat16" in message for message in caplog.messages)


def test_a_loss_that_is_not_finite_ends_the_run(bert, data):
    run = a_run(bert, dataclasses.replace(SETTINGS, epochs=9, learning_rate=1e30, gradient_norm=1e30))
    history = run.fit(data, TRAIN, VALIDATION, Checkpoints()).history
    assert len(history) < 9
    assert not np.isfinite(history[-1].training_loss)


def test_evaluation_keeps_the_order_of_examples(bert, data):
    run = a_run(bert)
    index = np.array([5, 90, 7, 33])
    together = scoring.evaluate(run.engine, run.task, data, index, "float32").answers["logits"].to_pylist()
    single = [scoring.evaluate(run.engine, run.task, data, index[i : i + 1], "float32") for i in range(4)]
    alone = [scored.answers["logits"].to_pylist()[0] for scored in single]
    assert np.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_by_the_engine_and_is_scored_as_by_the_plain_loop(family, make_backbone, make_tokens):
    data = tokens.load(make_tokens(family))
    settings = dataclasses.replace(SETTINGS, epochs=12)
    run = a_run(make_backbone(family), settings)
    packed = family in ("bert", "roberta", "electra", "gpt2", "llama")
    assert ("packed" in run.engine.tricks, "cut" in run.engine.tricks) == (packed, not packed)
    history = run.fit(data, TRAIN, VALIDATION, Checkpoints()).history
    assert history[-1].training_loss < 0.9 * history[0].training_loss
    found = scoring.evaluate(run.engine, run.task, data, VALIDATION, "float32").answers["logits"].to_pylist()
    plain = a_run(make_backbone(family), dataclasses.replace(settings, engine="plain"))
    methods.load_trained(plain.model, methods.trained_state(run.model))
    expected = scoring.evaluate(plain.engine, plain.task, data, VALIDATION, "float32").answers["logits"].to_pylist()
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "plan"),
    [
        (Training(epochs=3, batch_size=10), (10, 30, 3)),
        (Training(epochs=3, batch_size=10, minimum_steps=45), (10, 45, 5)),
        (Training(epochs=3, batch_size=10, steps=12), (10, 12, 2)),
        (Training(epochs=1, batch_size=64), (2, 2, 1)),
    ],
)
def test_budgets(settings, plan):
    assert plans.Plan.of(settings, 96) == plans.Plan(*plan)


def test_a_budget_in_steps_ends_within_an_epoch(bert, data):
    run = a_run(bert, dataclasses.replace(SETTINGS, steps=8))
    progress = run.fit(data, TRAIN, VALIDATION, Checkpoints())
    assert [row.step for row in progress.history] == [6, 8]
    assert progress.examples_seen == 8 * 16


def test_weight_decay_spares_vectors_that_multiply(bert):
    run = a_run(bert, method="ia3")
    decayed = run.optimizer.param_groups[0]
    assert sum("ia3_l" in name for name, p in run.model.named_parameters() if p.requires_grad) == 2 * 3
    assert sorted(tuple(p.shape) for p in decayed["params"]) == [(3, 32), (32, 32)]  # the head's


def test_weight_decay_spares_biases_and_norms(bert):
    run = a_run(bert)
    decayed, free = run.optimizer.param_groups
    assert all(p.ndim == 2 for p in decayed["params"]) and all(p.ndim == 1 for p in free["params"])
    assert free["weight_decay"] == 0.0 < decayed["weight_decay"]
