"""What libraries do to unwary methods, and what methods do beyond the contract: each test fails without its remedy."""

import itertools
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import NONE, TASK, TRAIN, a_run_of, adapted

from peftstudy import backbones, contract, methods, scoring, tasks
from peftstudy.changes import butterflies, edits, entries, gates, growing, projections, sparse_low_rank
from peftstudy.checkpoints import Checkpoints
from peftstudy.methods import adapt, create, trained_state

GENERATION = tasks.create("generation")
STEPS = 18


def inputs(rows=4, length=9, padding=0):
    ids = torch.randint(5, 200, (rows, length + padding), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[:, length:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@torch.no_grad()
def logits(model, **batch):
    return model.eval()(**batch).logits


@pytest.mark.parametrize("name", ["adalora", "increlora", "gradient-share", "loreft", "unipelt", "combined"])
def test_an_interrupted_run_ends_with_the_same_weights(name, bert, data, tmp_path):
    options = {"parts": ["adalora", "prompt", "density"]} if name == "combined" else {}
    whole = a_run_of(bert, name, options)
    whole.fit(data, TRAIN, NONE, Checkpoints())

    def stop(model, epoch):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        a_run_of(bert, name, options).fit(data, TRAIN, NONE, Checkpoints(tmp_path / "c.pt", "key", seconds=0), stop)
    resumed = a_run_of(bert, name, options)
    resumed.fit(data, TRAIN, NONE, Checkpoints(tmp_path / "c.pt", "key"))
    ends = trained_state(whole.model), trained_state(resumed.model)
    assert ends[0].keys() == ends[1].keys() and all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.parametrize("name", ["adalora", "increlora", "gradient-share", "pissa", "olora", "loreft", "dsee"])
def test_a_run_is_evaluated_from_its_trained_weights_alone(name, bert, data, tmp_path):
    run = a_run_of(bert, name)
    run.fit(data, TRAIN, NONE, Checkpoints())
    save_file(trained_state(run.model), tmp_path / "trained.safetensors")
    again = adapted(bert, name)[1].model
    methods.load_trained(again, load_file(tmp_path / "trained.safetensors"))
    assert torch.equal(logits(again, **inputs()), logits(run.model, **inputs()))


def test_adalora_prunes_to_its_budget_and_its_orthogonality_is_no_part_of_the_reported_loss(bert, data):
    run = a_run_of(bert, "adalora", {"every": 1})
    progress = run.fit(data, TRAIN, np.arange(96, 144), Checkpoints())
    values = torch.stack([p for name, p in run.model.named_parameters() if "lora_E" in name])
    assert int((values != 0).sum()) == 8 * len(values) < 12 * len(values)
    scored = scoring.evaluate(run.engine, TASK, data, np.arange(96, 144), "float32")
    own = TASK.loss(torch.tensor(scored.answers["logits"].to_pylist()), torch.tensor(data.labels[96:144]).long())
    assert progress.history[-1].validation_loss == pytest.approx(float(own), rel=1e-5)
    run.model.train()
    term = run.method.penalty(run.model)
    assert float(term.detach()) > 0.1 and term.requires_grad
    assert run.method.penalty(run.model.eval()) is None


def test_orthogonality_keeps_the_factors_orthogonal(bert, data):
    def disorder(weight):
        run = a_run_of(bert, "adalora", {"orthogonality": weight})
        run.fit(data, TRAIN, NONE, Checkpoints())
        run.method = create("adalora", {"orthogonality": 1.0})
        return float(run.method.penalty(run.model.train()))

    assert disorder(1.0) < 0.8 * disorder(0.0)


def test_weight_decay_leaves_the_rotation_of_loreft_alone(bert, data, monkeypatch):
    def rows(remedy):
        if not remedy:
            monkeypatch.setattr(type(create("loreft")), "no_decay", methods.Method.no_decay)
        run = a_run_of(bert, "loreft", weight_decay=0.1)
        run.fit(data, TRAIN[:16], NONE, Checkpoints())
        units = [module for name, module in run.model.named_modules() if name.endswith("projection")]
        return torch.cat([unit.weight for unit in units]).norm(dim=1)

    assert torch.allclose(rows(True), torch.ones(2), atol=1e-5)
    assert not torch.allclose(rows(False), torch.ones(2), atol=1e-5), "the library mends it now: drop the exemption"


@pytest.mark.parametrize("name", ["loreft", "noreft", "direft"])
def test_edits_end_with_a_text_whose_padding_stands_in_front(name, make_backbone, monkeypatch):
    """As a decoder's does that writes: the library would edit states behind the last one."""
    short = torch.tensor([[7, 8]])
    batch = {"input_ids": torch.tensor([[0, 0, 0, 0, 7, 8], [9, 10, 11, 12, 13, 14]])}
    batch["attention_mask"] = (batch["input_ids"] > 0).long()
    batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)

    def written(remedy):
        if not remedy:
            monkeypatch.setattr(edits, "keep_within", lambda model: model)
        folder, method = make_backbone("gpt2"), create(name)
        loaded = backbones.load(folder, GENERATION, 0, 0, method.attention)
        model = adapt(method, loaded, backbones.read_shape(folder), 0).model
        return logits(model, **batch)[0, -1], logits(model, input_ids=short)[0, -1]

    together, alone = written(True)
    assert torch.allclose(together, alone, atol=1e-5)
    with pytest.raises(RuntimeError, match="out of bounds"):
        written(False)


def test_gates_average_over_tokens_and_not_over_padding(bert, monkeypatch):
    def change(remedy):
        if not remedy:
            monkeypatch.setattr(gates, "average_over_tokens", lambda model: model)
        model = adapted(bert, "unipelt")[1].model
        for name, parameter in model.named_parameters():
            if "gate" in name:
                parameter.data.normal_(generator=torch.Generator().manual_seed(len(name)))
        padded = inputs(padding=7)
        short = {key: value[:, :9] for key, value in padded.items()}
        return float((logits(model, **padded) - logits(model, **short)).abs().max())

    assert change(True) < 1e-6
    assert change(False) > 1e-5, "the library mends it now: drop our gates"


@pytest.mark.parametrize("name", ["pissa", "olora"])
def test_what_changes_base_weights_leaves_the_outputs_and_the_next_run_alone(name, bert):
    loaded = backbones.load(bert, TASK, 3, 0).model
    before = {key: value.clone() for key, value in loaded.state_dict().items()}
    expected = logits(loaded, **inputs())
    first, second = (adapted(bert, name)[1].model for _ in range(2))
    key = "bert.encoder.layer.0.attention.self.query"
    assert not torch.allclose(first.state_dict()[f"{key}.base_layer.weight"], before[f"{key}.weight"], atol=1e-3)
    assert torch.allclose(logits(first, **inputs()), expected, atol=1e-5)
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_pissa_trains_the_principal_part(bert):
    model = adapted(bert, "pissa", {"rank": 3, "alpha": 3})[1].model
    layer = model.bert.encoder.layer[0].attention.self.query
    original = backbones.load(bert, TASK, 3, 0).model.bert.encoder.layer[0].attention.self.query.weight
    left, values, right = torch.linalg.svd(original.detach())
    assert torch.allclose(layer.get_delta_weight("default"), (left[:, :3] * values[:3]) @ right[:3], atol=1e-5)


@pytest.mark.parametrize("name", ["fourierft", "loreft", "randlora", "vera"])
def test_what_is_drawn_beside_the_trained_weights_is_drawn_again_by_the_seed(name, bert, data):
    """Trap 13: what was trained is not all that differs from the backbone."""
    run = a_run_of(bert, name)
    run.fit(data, TRAIN, NONE, Checkpoints())

    def predictions(seed):
        again = adapted(bert, name, seed=seed)[1].model
        methods.load_trained(again, trained_state(run.model))
        return logits(again, **inputs())

    assert torch.equal(predictions(0), logits(run.model, **inputs()))
    assert not torch.equal(predictions(1), logits(run.model, **inputs()))


@pytest.mark.parametrize("name", ["gradient-share", "increlora"])
def test_what_was_chosen_in_training_is_stored_with_the_weights(name, bert, data):
    """Trap 13: nothing could find it again."""
    run = a_run_of(bert, name)
    run.fit(data, TRAIN, NONE, Checkpoints())
    state, again = trained_state(run.model), adapted(bert, name)[1].model
    weights = {key: tensor for key, tensor in state.items() if not key.endswith("chosen")}
    assert weights.keys() < state.keys()
    for key, tensor in weights.items():
        again.get_parameter(key).data.copy_(tensor)
    assert not torch.equal(logits(again, **inputs()), logits(run.model, **inputs()))
    methods.load_trained(again, state)
    assert torch.equal(logits(again, **inputs()), logits(run.model, **inputs()))


@pytest.mark.parametrize("name", ["pissa", "olora"])
def test_factors_alone_are_not_the_model_whose_base_weights_were_changed(name, bert, data):
    """Trap 13: they have the same names as LoRA's, and belong to what remains of the matrices."""
    run = a_run_of(bert, name)
    run.fit(data, TRAIN, NONE, Checkpoints())
    naive, own = (adapted(bert, kind)[1].model for kind in ("lora", name))
    for model in (naive, own):
        methods.load_trained(model, trained_state(run.model))
    assert torch.equal(logits(own, **inputs()), logits(run.model, **inputs()))
    assert not torch.allclose(logits(naive, **inputs()), logits(own, **inputs()), atol=1e-5)


@pytest.mark.parametrize(("stabilised", "scale"), [(False, 16 / 4), (True, 16 / 2)])
@torch.no_grad()
def test_lora_is_scaled_by_its_rank_or_by_the_root_of_it(stabilised, scale, bert):
    """alpha / r (Hu et al., 2022), alpha / sqrt(r) (Kalajdzievski, 2023)."""
    model = adapted(bert, "lora", {"rank": 4, "alpha": 16, "rank_stabilised": stabilised})[1].model
    layer = model.bert.encoder.layer[0].attention.self.query
    down, up = layer.lora_A["default"].weight, torch.nn.init.normal_(layer.lora_B["default"].weight)
    states = torch.randn(3, 32)
    assert torch.allclose(layer(states) - layer.base_layer(states), scale * states @ down.T @ up.T, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "places"),
    [
        ("bert", {"bert.encoder.layer.1"}),
        ("llama", {"model.layers.1"}),
        ("t5", {"transformer.decoder.block.0", "transformer.decoder.block.1", "transformer.encoder.block.1"}),
    ],
)
def test_adapterdrop_leaves_the_first_layers_out(backbone, places):
    """Of an encoder-decoder, those of the encoder."""
    result = contract.Case(create("adapterdrop"), backbone).adapted()
    assert {re.match(r"(.*?\.\d+)\.", name)[1] for name in result.method_names} == places
    first = result.model.get_submodule(max(places).replace("1", "0"))
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_the_same_seed_gives_the_same_weights_in_another_process():
    """Trap 14: built, seeded, adapted, trained in this order, and whatever Python's hashes are."""
    names = ("fourierft", "gradient-share", "houlsby", "lora", "loreft", "prompt", "random-share", "vblora", "vera")
    code = f"""
from hashlib import sha256
from safetensors.torch import save
from peftstudy import contract, methods
for name in {names}:
    model = contract.Case(methods.create(name), "bert").fitted.adapted.model
    print(name, sha256(save(methods.trained_state(model))).hexdigest())
"""
    found = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout.splitlines()
        for seed in ("1", "2")
    ]  # fmt: skip
    assert found[0] == found[1] and [line.split()[0] for line in found[0]] == [*names]


@pytest.mark.parametrize("name", ["random-share", "magnitude-share", "gradient-share"])
def test_a_share_neither_moves_nor_decays_nor_stores_the_rest(name, bert, data):
    run = a_run_of(bert, name, {"share": 0.01}, weight_decay=0.5)
    base = backbones.load(bert, TASK, 3, 0).model
    shape = backbones.read_shape(bert)
    run.fit(data, TRAIN, NONE, Checkpoints())
    before = torch.cat([p.detach().flatten() for _, _, p in entries.tensors(base, shape)])
    frozen = entries.originals(run.model)
    assert torch.equal(torch.cat([p.detach().flatten() for p in frozen]), before)
    after = torch.cat([tensor.detach().flatten() for tensor in _effective(run.model, base, shape)])
    changed = int((after != before).sum())
    count = round(0.01 * shape.parameters)
    assert 0.5 * count < changed <= count
    values = {key: tensor for key, tensor in trained_state(run.model).items() if "entries" in key}
    assert sum(tensor.numel() for key, tensor in values.items() if key.endswith("values")) == count
    assert [key.endswith("chosen") for key in values].count(True) == (name == "gradient-share")


def _effective(model, base, shape):
    """Yield what the adapted model computes with, in the order of entries.tensors on the plain one."""
    modules = dict(model.base_model.named_modules())
    names = {id(parameter): name for name, parameter in base.base_model.named_parameters()}
    for _, _, parameter in entries.tensors(base, shape):
        path, _, name = names[id(parameter)].rpartition(".")
        yield getattr(modules[path], name)


def test_the_shares_are_those_of_their_names(bert, data):
    base, shape = backbones.load(bert, TASK, 3, 0).model, backbones.read_shape(bert)
    flat = torch.cat([p.detach().abs().flatten() for _, _, p in entries.tensors(base, shape)])
    chosen = entries.of(adapted(bert, "magnitude-share")[1].model).numbers
    assert flat[chosen].min() >= flat[np.setdiff1d(np.arange(len(flat)), chosen.numpy())].max()
    runs = [entries.of(adapted(bert, "random-share", seed=seed)[1].model).numbers for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    run = a_run_of(bert, "gradient-share", {"examples": 7})
    before = entries.of(run.model).numbers.clone()
    run.method.prepare(run.model, 1, run._losses(data, TRAIN))
    information = torch.zeros(len(flat))
    plain = backbones.load(bert, TASK, 3, 0).model
    for example in np.random.default_rng([0, 2]).permutation(TRAIN)[:7]:
        plain.zero_grad()
        batch = {key: torch.from_numpy(value) for key, value in data.batch(np.array([example])).items()}
        TASK.loss(plain(**batch).logits, torch.tensor([int(data.labels[example])])).backward()
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for _, _, p in entries.tensors(plain, shape)]
        information += torch.cat([gradient.flatten() for gradient in gradients]) ** 2
    found = entries.of(run.model).numbers
    assert not torch.equal(found, before)
    best = entries.largest([information], len(found))
    assert len(np.intersect1d(found, best)) > 0.99 * len(found)  # sums in another order differ in the last digit


def test_the_density_is_the_papers(bert, data):
    """a^2 / (a^2 + epsilon), a mean over the tokens, units, layers and texts; padding is no token."""
    method, result = adapted(bert, "density", {"epsilon": 0.01, "weight": 2.0})
    for module in result.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch, seen = inputs(padding=4), []
    batch["attention_mask"][0, 5:] = 0
    for layer in result.model.bert.encoder.layer:
        layer.intermediate.register_forward_hook(lambda module, given, output: seen.append(output.detach()))
    result.model.train()(**batch)
    expected = [
        [float((a[row, :n] ** 2 / (a[row, :n] ** 2 + 0.01)).mean()) for row, n in enumerate((5, 9, 9, 9))] for a in seen
    ]
    assert float(method.penalty(result.model)) == pytest.approx(2 * np.mean(expected), rel=1e-5)
    assert method.penalty(result.model) is None, "counted twice"


def test_the_density_falls_when_it_is_asked_to(bert, data):
    def density(weight):
        parts = {"full": {}, "density": {"weight": weight, "epsilon": 1e-3}}
        run = a_run_of(bert, "combined", {"parts": parts})
        run.fit(data, TRAIN, NONE, Checkpoints())
        run.model.train()
        run.engine.logits(data, np.arange(32))
        return float(run.model.densities.mean())

    assert density(3.0) < 0.8 * density(0.0)


def test_decomposition_finds_a_low_rank_and_a_sparse_part():
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(60, 2, generator=generator) @ torch.randn(2, 50, generator=generator)
    sparse = torch.zeros(60, 50)
    sparse[[1, 5, 9], [2, 7, 11]] = torch.tensor([8.0, -9.0, 10.0])
    found = sparse_low_rank.decompose(low + sparse, 2, 3)
    assert set(map(tuple, found[1].nonzero().tolist())) == {(1, 2), (5, 7), (9, 11)}
    assert torch.allclose(found[0], low, atol=1e-3) and torch.linalg.matrix_rank(found[0]) == 2


def test_dsee_adds_a_low_rank_product_and_entries_where_the_backbone_is_sparse(bert, data):
    run = a_run_of(bert, "dsee", {"rank": 2, "entries": 5})
    run.fit(data, TRAIN, NONE, Checkpoints())
    layer = run.model.bert.encoder.layer[0].attention.self.query
    part, original = layer.parametrizations.weight[0], layer.parametrizations.weight.original
    rest = (layer.weight - original - part.scale * part.up @ part.down).detach()
    places = sparse_low_rank.decompose(original.detach(), 2, 5)[1]
    assert torch.equal(rest.abs() > 1e-6, places != 0) and int((places != 0).sum()) == 5


def test_ranks_grow_to_their_sum_and_the_most_important_grow_most(bert, data):
    run = a_run_of(bert, "increlora", {"rank": 3, "largest": 6})
    ranks = []
    run.method = _Watched(run.method, ranks)
    run.fit(data, TRAIN, NONE, Checkpoints())
    assert ranks[0] == [1, 1, 1, 1] and sum(ranks[-1]) == 12 and max(ranks[-1]) <= 6
    assert ranks[round(0.6 * STEPS)] == ranks[-1] and all(sum(b) >= sum(a) for a, b in itertools.pairwise(ranks))
    first = growing.Growing(torch.zeros(4, 3), 3, 1.0)
    growth = growing.Growth([torch.nn.Linear(3, 4) for _ in range(3)], 4, 1.0, 5)
    growth.plan(1, 1, 2)
    growth.smooth, growth.doubt = torch.tensor([1.0, 3.0, 2.0]), torch.ones(3)
    growth._grow()
    assert [part.rank for part in growth.parts] == [1, 2, 2] and first.rank == 1


class _Watched:
    def __init__(self, method, ranks):
        self._method, self._ranks = method, ranks

    def __getattr__(self, name):
        return getattr(self._method, name)

    def after_step(self, model, step):
        self._method.after_step(model, step)
        self._ranks.append([part.rank for part in model.growth.parts])


@pytest.mark.parametrize("options", [{"grown": 9}, {"grown": 99}, {"grown": 3, "largest": 3}], ids=str)
def test_ranks_come_to_their_sum_however_many_grow_at_once(options, bert, data):
    """More than there are matrices, or more than have room."""
    run = a_run_of(bert, "increlora", {"rank": 3, "largest": 6} | options)
    run.fit(data, TRAIN, NONE, Checkpoints())
    assert sum(part.rank for part in run.engine.model.growth.parts) == 3 * len(run.engine.model.growth.parts)


@pytest.mark.parametrize(
    ("options", "changes"),
    [({"rank": 12}, {}), ({}, {"epochs": None, "steps": 2}), ({"end": 0.8}, {"epochs": None, "steps": 2}),
     ({"begin": 0.6, "end": 0.39}, {"epochs": None, "steps": 3})],
    ids=str,
)  # fmt: skip
def test_adalora_ends_at_its_ranks_in_few_steps_and_without_pruning(options, changes, bert, data):
    run = a_run_of(bert, "adalora", options, **({"epochs": 2} | changes))
    run.fit(data, TRAIN, NONE, Checkpoints())
    values = [p for name, p in run.engine.model.named_parameters() if "lora_E" in name]
    assert sum(int((value != 0).sum()) for value in values) == options.get("rank", 8) * len(values)


def test_adalora_s_orthogonality_is_of_its_own_factors():
    case = contract.Case(create("combined", {"parts": {"adalora": {}, "unipelt": {}}}), "bert")
    model = case.adapted().model.train()
    (case.method.penalty(model)).backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved and all(name.endswith((".lora_A.default", ".lora_B.default")) for name in moved)


@pytest.mark.parametrize("family", ["bart", "t5"])
@pytest.mark.parametrize("name", ["prompt", "p-tuning"])
def test_no_word_stands_in_for_a_prompt_where_a_text_is_read_again(name, family):
    """The decoder of a classifier reads the text as it does without a prompt, and the head finds its end there."""
    case = contract.Case(create(name, {"tokens": 4}), family)
    model = case.adapted().model.eval()
    end, pad = model.config.eos_token_id, model.config.pad_token_id
    ids = torch.tensor([[11, 12, 13, 14, end], [11, 12, end, pad, pad]])
    read, found = [], []
    model.model.base_model.get_decoder().register_forward_pre_hook(
        lambda module, args, inputs: read.append(inputs["input_ids"]), with_kwargs=True
    )
    for word in (7, 9):
        model._word = lambda word=word: word
        with torch.no_grad():
            found.append(model(input_ids=ids, attention_mask=(ids != pad).long()).logits)
    assert torch.equal(*found)
    start = model.config.decoder_start_token_id
    assert read[0].tolist() == [[start, *row[:-1]] for row in ids.tolist()]


def test_adamss_finds_the_same_clusters_with_any_number_of_threads(bert):
    sizes = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            _, found = adapted(bert, "adamss")
        finally:
            torch.set_num_threads(1)
        sizes.append({name: tuple(p.shape) for name, p in found.model.named_parameters() if name in found.method_names})
    assert sizes[0] == sizes[1] and torch.get_num_threads() == 1


def test_the_pair_in_reserve_learns_before_it_counts():
    torch.manual_seed(0)
    linear = torch.nn.Linear(3, 4)
    growth = growing.Growth([linear], 4, 1.0, 2)
    [part], given = growth.parts, torch.randn(5, 3)
    plain = torch.nn.functional.linear(given, linear.parametrizations.weight.original, linear.bias)
    assert torch.equal(linear.eval()(given), plain)
    linear.train()(given).square().sum().backward()
    moving = part.right.grad.abs().sum(1) > 0
    assert moving.tolist() == [False, True, False, False], "the first waits for its value, the others for their turn"
    assert part.values.grad.nonzero().ravel().tolist() == [0]
    assert float(growth.parts[0].importance()) == pytest.approx(0, abs=1e-6)


def test_prompts_start_as_labels_words_or_noise(bert):
    from transformers import AutoTokenizer

    names = ("apple", "stone", "river")
    model = adapted(bert, "prompt", {"initial": "labels", "tokens": 5}, labels=names)[1].model
    words = model.model.base_model.embeddings.word_embeddings.weight
    tokenizer = AutoTokenizer.from_pretrained(bert)
    for vector, name in zip(model.prompt, names, strict=False):
        pieces = tokenizer(name, add_special_tokens=False)["input_ids"]
        assert torch.allclose(vector, words[pieces].mean(0))
    assert all((row == words).all(dim=1).any() for row in model.prompt[3:])
    noise = adapted(bert, "prompt", {"initial": "random", "tokens": 60})[1].model.prompt
    assert not any((row == words).all(dim=1).any() for row in noise)
    assert float(noise.std()) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(("network", "expected"), [("mlp", 22_016), ("lstm", None)])
def test_p_tuning_reads_what_its_network_makes(network, expected, bert):
    _, result = adapted(bert, "p-tuning", {"network": network, "tokens": 3, "inner": 8})
    assert result.model.vectors().shape == (3, 32) and result.model.vectors().requires_grad
    if expected:
        shape = backbones.Shape("bert", 128, 2, 512, 2, 30522, 512, 2)
        assert create("p-tuning", {"tokens": 10}).count(shape) == expected


def test_targets_are_found_in_every_layer(bert):
    model, shape = backbones.load(bert, TASK, 3, 0).model, backbones.read_shape(bert)
    found = projections.modules(model, shape, ["query", "output"])
    assert [tuple(module.weight.shape) for module in found] == [(32, 32), (32, 64)] * 2


@pytest.mark.parametrize(("block", "factors", "reached"), [(4, 1, 4), (4, 2, 8), (4, 3, 16), (2, 4, 16), (8, 2, 16)])
def test_butterflies_are_rotations_and_each_factor_doubles_their_reach(block, factors, reached):
    part = butterflies.Butterfly(16, block, factors)
    assert torch.equal(part(torch.eye(16)), torch.eye(16))
    torch.nn.init.normal_(part.angles, generator=torch.Generator().manual_seed(0))
    rotation = part(torch.eye(16)).detach()
    assert torch.allclose(rotation @ rotation.T, torch.eye(16), atol=1e-5)
    assert (rotation.abs() > 1e-6).sum(1).tolist() == [reached] * 16


def test_one_factor_of_a_butterfly_is_oft(bert):
    torch.manual_seed(0)
    ours, theirs = (
        adapted(bert, name, {"block": 8, **more})[1].model for name, more in (("boft", {"factors": 1}), ("oft", {}))
    )
    angles = [p for _, p in ours.named_parameters() if p.requires_grad and p.ndim == 3]
    peft = [p for name, p in theirs.named_parameters() if "oft_R" in name]
    assert sum(p.numel() for p in angles) == sum(p.numel() for p in peft)
    for own, other in zip(angles, peft, strict=True):
        own.data = torch.randn(own.shape) * 0.3
        other.data = -own.data[0]  # it turns the other way round
    assert torch.allclose(logits(ours, **inputs()), logits(theirs, **inputs()), atol=1e-5)


def test_a_model_of_the_adapters_library_keeps_its_signature_when_another_is_made(make_backbone):
    bart, llama = (
        methods.adapt(
            create("pfeiffer"), backbones.load(folder, GENERATION, 0, 0), backbones.read_shape(folder), 0
        ).model
        for folder in map(make_backbone, ("bart", "llama"))
    )
    assert llama._supports_logits_to_keep() and not bart._supports_logits_to_keep()
