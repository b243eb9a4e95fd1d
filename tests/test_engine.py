"""The fast step against the plain loop: the same losses and gradients, whatever the method."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT

from peftstudy import backbones, methods, tasks, tokens, training
from peftstudy.checkpoints import Checkpoints
from peftstudy.engine import TRICKS, Engine
from peftstudy.specs import Training
from peftstudy.tricks import dropout, embedding_gradients, fused, products
from peftstudy.tricks.packing import Attention, Layout

PRODUCTS = {"products"} if products.possible() else set()
FUSED = {"fused"} if fused.possible() else set()
LEFT_OUT = {"cut", "targets", "embeddings", "products", "fused"} - PRODUCTS - FUSED
"""Where packed batches of tiny models are classified."""
EXAMPLES = np.array([5, 40, 3, 77, 12, 8, 91, 60, 33, 2, 54])


@pytest.fixture(autouse=True)
def products_of_any_size(monkeypatch):
    """Those of tiny models are too small to be given to oneDNN."""
    monkeypatch.setattr(products, "SMALL", 0)


@pytest.fixture
def data(make_tokens, family):
    return tokens.load(make_tokens(family))


def create(name):
    """Return a method, or a combination of several with a plus between their names."""
    return methods.create("combined", {"parts": name.split("+")}) if "+" in name else methods.create(name)


def an_engine(folder, name, tricks, rate=0.0, seed=0, of="classification", classes=3, **options):
    method, task = create(name), tasks.create(of)
    shape = backbones.shape_for(folder, task)
    adapted = methods.adapt(method, backbones.load(folder, task, classes, seed, method.attention), shape, seed)
    for module in adapted.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rate
        elif hasattr(module, "dropout_prob"):
            module.dropout_prob = rate
    # Freshly made parts are near zero, and so would their neighbours' gradients be.
    torch.manual_seed(3)
    for parameter in adapted.model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    made = (adapted.model.train(), tricks, seed, method.extra_tokens, method.plain_attention)
    return Engine(*made, reads_first=task.reads_first, **options), task


def gradients(built, data, examples=EXAMPLES, parts=1, method="full"):
    """Return the loss of a batch and its gradients, by name; a method may add a penalty."""
    runner, task = built
    runner.begin_step(0)
    total = 0.0
    for index in np.array_split(examples, parts):
        logits = task.logits(runner, data, index)
        loss = task.loss_sum(logits, torch.from_numpy(task.targets(data, index))) / task.items(data, examples)
        penalty = create(method).penalty(runner.model)
        loss = loss if penalty is None else loss + penalty
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in runner.model.named_parameters() if p.grad is not None}


def assert_same(fast, plain):
    assert fast[0] == pytest.approx(plain[0], rel=1e-5)
    assert fast[1].keys() == plain[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in plain[1].values())
    for name, gradient in plain[1].items():
        assert torch.allclose(fast[1][name], gradient, rtol=1e-4, atol=1e-6 * max(1.0, largest)), name


@pytest.mark.parametrize("method", methods.able("classification"))
def test_gradients_are_those_of_the_plain_loop(method, family, make_backbone, data):
    folder = make_backbone(family)
    plain = gradients(an_engine(folder, method, "plain"), data)
    fast = an_engine(folder, method, "fast")
    if methods.create(method).plain_attention:
        assert fast[0].tricks | {"folded"} == set(TRICKS) - LEFT_OUT - ({"cached"} if method != "head" else set())
    else:
        assert fast[0].tricks == {"cut", "dropout", "memory"} | PRODUCTS
    assert_same(gradients(fast, data), plain)


OTHER_TASKS = [name for name, task in tasks.registered().items() if name != "classification" and not task.writes]
"""Of tasks that write, see test_writing."""
EVERY_METHOD_ON = "token-classification"  # which reads some of the tokens
SOME_METHODS = ("full", "prompt", "prefix", "lora", "houlsby", "head")
PAIRS = [(task, method) for task in OTHER_TASKS
         for method in (methods.able(task) if task == EVERY_METHOD_ON else SOME_METHODS)]  # fmt: skip


@pytest.mark.parametrize(("task", "method"), PAIRS)
def test_so_they_are_for_other_tasks(task, method, family, make_backbone, make_task_tokens):
    folder, data = make_backbone(family), tokens.load(make_task_tokens(task, family))
    classes = len(data.about["labels"])
    plain, fast = (an_engine(folder, method, tricks, of=task, classes=classes) for tricks in ("plain", "fast"))
    if not fast[1].reads_first:
        assert not fast[0].tricks & {"folded", "cached"}
    assert_same(gradients(fast, data), gradients(plain, data))
    plain[0].model.zero_grad(), fast[0].model.zero_grad()
    assert_same(gradients(fast, data, parts=3), gradients(plain, data))


@pytest.mark.parametrize("method", methods.able("classification"))
def test_so_they_are_in_bfloat16(method, make_backbone, make_tokens):
    """Within that type's precision: the direction of the whole gradient."""
    data = tokens.load(make_tokens("roberta"))
    found = []
    for tricks in ("plain", "fast"):
        runner, task = an_engine(make_backbone("roberta"), method, tricks)
        with torch.autocast("cpu", torch.bfloat16):
            logits = runner.logits(data, EXAMPLES)
        task.loss_sum(logits, torch.from_numpy(data.labels[EXAMPLES]).long()).backward()
        found.append(torch.cat([p.grad.ravel() for p in runner.model.parameters() if p.grad is not None]))
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.995
    assert float(found[1].norm() / found[0].norm()) == pytest.approx(1, abs=0.05)


def test_pairs_keep_their_token_types(make_backbone, make_tokens):
    data = tokens.load(make_tokens("bert"))
    pairs = dataclasses.replace(data, second=(data.lengths // 2).astype(np.int32))
    plain = gradients(an_engine(make_backbone("bert"), "full", "plain"), pairs)
    assert_same(gradients(an_engine(make_backbone("bert"), "full", "fast"), pairs), plain)
    assert plain[0] != gradients(an_engine(make_backbone("bert"), "full", "plain"), data)[0]


@pytest.mark.parametrize("left_out", sorted(TRICKS))
def test_every_trick_can_be_left_out(left_out, family, make_backbone, data, monkeypatch):
    monkeypatch.setattr(embedding_gradients, "LARGE", 1)
    folder = make_backbone(family)
    tricks = set(TRICKS) - {left_out}
    assert left_out not in an_engine(folder, "full", tricks)[0].tricks
    assert_same(gradients(an_engine(folder, "full", tricks), data), gradients(an_engine(folder, "full", "plain"), data))


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("method", ["full", "prompt", "houlsby"])
def test_evaluation_and_micro_batches_agree_with_the_plain_loop(method, parts, make_backbone, make_tokens):
    folder, data = make_backbone("roberta"), tokens.load(make_tokens("roberta"))
    plain, fast = an_engine(folder, method, "plain"), an_engine(folder, method, "fast")
    assert_same(gradients(fast, data, parts=parts), gradients(plain, data))
    with torch.inference_mode():
        logits = [runner.logits(data, EXAMPLES) for runner, _ in (plain, fast)]
    assert torch.allclose(*logits, atol=1e-5)


@pytest.mark.parametrize("tricks", ["fast", "plain"])
@pytest.mark.parametrize("method", [*methods.able("classification"), "lora+density"])
def test_checkpointed_activations_change_nothing(method, tricks, make_backbone, make_tokens):
    """With dropout on: a layer that is computed again drops what it dropped, and so does the part after it."""
    data, folder = tokens.load(make_tokens("bert")), make_backbone("bert")
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        built = an_engine(folder, method, tricks, rate=0.3, activation_checkpointing=checkpointing)
        torch.manual_seed(0)
        found.append(gradients(built, data, parts=3, method=method))
    assert found[0][0] == found[1][0] and found[0][1].keys() == found[1][1].keys()
    assert all(torch.equal(gradient, found[1][1][name]) for name, gradient in found[0][1].items())


DECODERS = ("gpt2", "llama")
ON_DECODERS = ("full", "houlsby", "layernorm", "lora")
"""A few kinds of change; every method is held against the plain loop on decoders by the contract (test_contract)."""


@pytest.mark.parametrize("method", ON_DECODERS)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("of", ["classification", "multiple-choice", "generation"])
def test_batches_of_decoders_are_packed(of, decoder, method, make_backbone, make_task_tokens, monkeypatch):
    monkeypatch.setattr(embedding_gradients, "LARGE", 1)
    folder, data = make_backbone(decoder), tokens.load(make_task_tokens(of, decoder))
    plain = gradients(an_engine(folder, method, "plain", of=of), data)
    built = an_engine(folder, method, "fast", of=of)
    writes = {"cut", "targets"} if of == "generation" else set()
    assert built[0].tricks - {"embeddings"} == {"packed", "read", "dropout", "memory"} | PRODUCTS | FUSED | writes
    assert_same(gradients(built, data), plain)
    built[0].model.zero_grad()
    assert_same(gradients(built, data, parts=3), plain)
    for left_out in ("packed", "read"):
        assert_same(gradients(an_engine(folder, method, set(TRICKS) - {left_out}, of=of), data), plain)


@pytest.mark.parametrize("decoder", DECODERS)
def test_what_packs_a_decoder_gets_out_of_the_way(decoder, make_backbone, make_task_tokens):
    """Between batches it is the library's own model: it is asked for logits, and writes."""
    data = tokens.load(make_task_tokens("generation", decoder))
    (fast, _), (plain, _) = (an_engine(make_backbone(decoder), "full", t, of="generation") for t in ("fast", "plain"))
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        fast.target_logits(data, EXAMPLES)
        assert torch.equal(fast.model(input_ids=ids).logits, plain.model(input_ids=ids).logits)
    assert fast.write(data, EXAMPLES) == plain.write(data, EXAMPLES)


@pytest.mark.parametrize("of", ["classification", "generation"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_so_they_are_with_checkpointed_activations(decoder, of, make_backbone, make_task_tokens):
    found, data = [], tokens.load(make_task_tokens(of, decoder))
    for checkpointing in (False, True):
        built = an_engine(make_backbone(decoder), "full", "fast", 0.3, of=of, activation_checkpointing=checkpointing)
        found.append(gradients(built, data, parts=3))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(gradient, found[1][1][name]) for name, gradient in found[0][1].items())


def test_checkpointed_activations_are_not_kept(make_backbone, make_tokens):
    data, kept = tokens.load(make_tokens("roberta")), {}
    for checkpointing in (False, True):
        sizes = []
        engine, _ = an_engine(make_backbone("roberta"), "full", "fast", activation_checkpointing=checkpointing)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            engine.logits(data, EXAMPLES)
        kept[checkpointing] = sum(sizes)
    assert kept[True] < 0.5 * kept[False]


def test_a_second_step_forgets_the_embedding_gradients_of_the_first(make_backbone, make_tokens, monkeypatch):
    monkeypatch.setattr(embedding_gradients, "LARGE", 1)
    data = tokens.load(make_tokens("bert"))
    built = an_engine(make_backbone("bert"), "full", "fast")
    gradients(built, data, EXAMPLES[:5])
    built[0].model.zero_grad()
    second = gradients(built, data, EXAMPLES[5:])
    assert_same(second, gradients(an_engine(make_backbone("bert"), "full", "plain"), data, EXAMPLES[5:]))


@pytest.mark.parametrize("lengths", [[4, 4, 4], [1], [1, 1], [2, 3, 3, 5, 9, 9, 9, 9, 11, 14]], ids=str)
@pytest.mark.parametrize(("firsts", "causal"), [(False, False), (True, False), (False, True)])
def test_attention_is_softmax_within_each_text_with_its_exact_gradient(lengths, firsts, causal):
    torch.manual_seed(0)
    layout, heads = Layout(np.array(lengths)), 2
    rows = len(lengths) if firsts else sum(lengths)
    query, key, value = (
        torch.randn(n, 6, dtype=torch.float64, requires_grad=True) for n in (rows, sum(lengths), sum(lengths))
    )
    expected = []
    for number, (begin, length) in enumerate(zip(layout.offsets, lengths, strict=False)):
        q = query[number : number + 1] if firsts else query[begin : begin + length]
        q, k, v = (
            x.view(-1, heads, 3).transpose(0, 1) for x in (q, key[begin : begin + length], value[begin:][:length])
        )
        scores = q @ k.mT / 3**0.5
        if causal and not firsts:
            scores = scores + torch.full((length, length), -torch.inf).triu(1)
        expected.append((torch.softmax(scores, -1) @ v).transpose(0, 1).reshape(-1, 6))
    found = Attention.apply(query, key, value, layout, heads, None, causal)
    assert torch.allclose(found, torch.cat(expected))

    def always_the_same(weights):
        generator = torch.Generator().manual_seed(weights.numel())
        return 2.0 * (torch.rand(weights.shape, generator=generator, dtype=weights.dtype) < 0.5)

    for noise in (None, always_the_same):
        assert torch.autograd.gradcheck(
            lambda *x, n=noise: Attention.apply(*x, layout, heads, n, causal), (query, key, value)
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_dropout_factors_have_the_rate_and_the_mean_of_dropout(dtype):
    factors = dropout.factors(np.random.SFC64(0), (1001, 999), 0.1, dtype)
    assert factors.shape == (1001, 999) and factors.dtype == dtype
    values = factors.unique()
    assert values.tolist() == [0.0, pytest.approx(1 / 0.9, rel=4e-3 if dtype == torch.bfloat16 else 1e-6)]
    zeros = float((factors == 0).double().mean())
    assert zeros == pytest.approx(0.1, abs=4 * (0.09 / factors.numel()) ** 0.5)
    # Neighbours, in either direction, are independent: both zero in one case of a hundred.
    for pair in ((factors[1:] == 0) & (factors[:-1] == 0), (factors[:, 1:] == 0) & (factors[:, :-1] == 0)):
        assert float(pair.double().mean()) == pytest.approx(0.01, abs=5e-4)


def test_masks_follow_from_seed_and_step(make_backbone, make_tokens):
    data = tokens.load(make_tokens("bert"))

    def loss(seed, step):
        runner, task = an_engine(make_backbone("bert"), "full", "fast", rate=0.3)
        runner.seed = seed
        runner.begin_step(step)
        with torch.no_grad():
            logits = runner.logits(data, EXAMPLES)
        return float(task.loss_sum(logits, torch.from_numpy(data.labels[EXAMPLES]).long()))

    assert loss(0, 0) == loss(0, 0)
    assert len({loss(0, 0), loss(0, 1), loss(1, 0)}) == 3


def test_losses_with_dropout_average_to_those_of_the_plain_loop(make_backbone, make_tokens):
    data = tokens.load(make_tokens("bert"))
    targets = torch.from_numpy(data.labels[EXAMPLES]).long()
    means, errors = [], []
    for tricks in ("plain", "fast"):
        runner, task = an_engine(make_backbone("bert"), "full", tricks, rate=0.2)
        torch.manual_seed(0)
        losses = []
        with torch.no_grad():
            for step in range(300):
                runner.begin_step(step)
                losses.append(float(task.loss_sum(runner.logits(data, EXAMPLES), targets)))
        means.append(np.mean(losses))
        errors.append(np.std(losses) / len(losses) ** 0.5)
    assert abs(means[0] - means[1]) < 4 * np.hypot(*errors)


def test_a_frozen_body_sees_each_example_once(make_backbone, make_tokens, monkeypatch):
    folder, data = make_backbone("roberta"), tokens.load(make_tokens("roberta"))
    fast, plain = an_engine(folder, "head", "fast"), an_engine(folder, "head", "plain")
    with torch.inference_mode():  # what evaluation leaves, training can use
        fast[0].logits(data, EXAMPLES[:3])
    first = gradients(fast, data, EXAMPLES[:7])
    monkeypatch.setattr(fast[0], "_body_states", lambda tokens, index: pytest.fail(f"computed {index} again"))
    monkeypatch.setattr(fast[0]._frozen, "compute", fast[0]._body_states)
    fast[0].model.zero_grad()
    assert_same(first, gradients(plain, data, EXAMPLES[:7]))
    plain[0].model.zero_grad()
    assert_same(gradients(fast, data, EXAMPLES[4:7]), gradients(plain, data, EXAMPLES[4:7]))


def test_a_frozen_body_changes_no_resumed_run(make_backbone, make_tokens, tmp_path):
    data, settings = tokens.load(make_tokens("bert")), Training(epochs=3, batch_size=16, dropout_in_frozen_body=False)
    train, none = np.arange(64), np.arange(0)

    def a_run():
        method, task = methods.create("head"), tasks.create("classification")
        loaded = backbones.load(make_backbone("bert"), task, 3, 0, method.attention)
        adapted = methods.adapt(method, loaded, backbones.read_shape(make_backbone("bert")), 0)
        run = training.Run(adapted.model, method, task, settings, 0)
        # Sums in a wider body are rounded otherwise in another batch; here they are so by more than that.
        frozen, exact = run.engine._frozen, run.engine._frozen.compute
        frozen.compute = lambda tokens, index: exact(tokens, index) + float(index.sum()) / 1e4
        return run

    whole = a_run()
    whole.fit(data, train, none, Checkpoints())
    keep, stopped = Checkpoints(tmp_path / "checkpoint.pt", "key", seconds=0), a_run()
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(data, train, none, keep, after_epoch=lambda model, epoch: _interrupt(epoch == 2))
    resumed = a_run()
    resumed.fit(data, train, none, Checkpoints(tmp_path / "checkpoint.pt", "key"))
    for one, other in zip(whole.parameters, resumed.parameters, strict=True):
        assert torch.equal(one, other)


def _interrupt(now):
    if now:
        raise KeyboardInterrupt


@pytest.mark.parametrize("family", ["bert", "electra", "deberta-v2", "distilbert", "modernbert", "gpt2", "t5", "bart"])
def test_dropout_stops_in_the_frozen_body_of_any_family(family, make_backbone, make_tokens):
    data = tokens.load(make_tokens(family))
    loaded = backbones.load(make_backbone(family), tasks.create("classification"), 3, 0)
    for parameter in loaded.model.base_model.parameters():
        parameter.requires_grad_(False)
    for module in loaded.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    answers = {}
    for acts in (True, False):
        engine = Engine(loaded.model.train(), "plain", 0, dropout_in_frozen_body=acts)
        dropout.stop([m for name, m in loaded.model.named_children() if m is not loaded.model.base_model])
        answers[acts] = [engine.logits(data, EXAMPLES) for _ in range(2)]
    assert not torch.equal(*answers[True]) and torch.equal(*answers[False])


@pytest.mark.parametrize("family", ["gpt2", "llama", "roberta"])
def test_a_text_may_hold_the_token_that_pads(family, make_backbone, make_tokens):
    """A decoder's own end of text pads, too, and a text may spell RoBERTa's padding out."""
    data = tokens.load(make_tokens(family))
    ids = np.array(data.input_ids)
    for text in EXAMPLES[::2]:
        ids[data.offsets[text] + 2] = ids[data.offsets[text + 1] - 1] = data.about["pad_id"]
    data = dataclasses.replace(data, input_ids=ids)
    fast, plain = (an_engine(make_backbone(family), "full", tricks) for tricks in ("fast", "plain"))
    assert "packed" in fast[0].tricks
    assert_same(gradients(fast, data), gradients(plain, data))


@pytest.mark.parametrize(("acts", "cached"), [(True, False), (False, True)])
def test_dropout_in_a_frozen_body_forbids_that_unless_the_settings_stop_it(acts, cached, make_backbone):
    task, method = tasks.create("classification"), methods.create("head")
    loaded = backbones.load(make_backbone("bert"), task, 3, 0, method.attention)
    adapted = methods.adapt(method, loaded, backbones.read_shape(make_backbone("bert")), 0)
    assert ("cached" in Engine(adapted.model, "fast", 0, dropout_in_frozen_body=acts).tricks) == cached
    trains_the_body = an_engine(make_backbone("bert"), "full", "fast")[0].model
    assert "cached" not in Engine(trains_the_body, "fast", 0, dropout_in_frozen_body=acts).tricks


def test_attention_weights_are_dropped_alike_folded_or_not(make_backbone, make_tokens):
    """Both draw the same words in the same order, so with dropout on they give the same losses."""
    data = tokens.load(make_tokens("bert"))
    losses = {}
    for tricks in (set(TRICKS), set(TRICKS) - {"folded"}):
        runner, _ = an_engine(make_backbone("bert"), "full", tricks, rate=0.3)
        dropout.stop([module for module in runner.model.modules() if type(module) is torch.nn.Dropout])
        with torch.no_grad():
            for step in range(2):
                runner.begin_step(step)
                losses["folded" in tricks, step] = runner.logits(data, EXAMPLES)
    assert torch.allclose(losses[True, 0], losses[False, 0], atol=1e-5)
    assert not torch.allclose(losses[True, 0], losses[True, 1], atol=1e-3), "no attention weight was dropped"


FAULTS = """
import resource, torch
from peftstudy.tricks import allocation

def faults(size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

for keep in (False, True, False):
    allocation.keep(keep)
    print(min(faults(2**24 - number * 2**12) for number in range(5)))  # smaller each time: malloc wants room to align
"""


def test_freed_memory_comes_back_without_page_faults():
    """In a process of its own: what others have freed would be taken instead."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    fresh, kept, fresh_again = map(int, done.stdout.split())
    assert fresh > 1000 and fresh_again > 1000 > 10 * kept


HOLES = """
import torch
from peftstudy.tricks import allocation

def resident():
    return int(allocation.STATM.read_text().split()[1]) * allocation.PAGE

allocation.keep(True)
for step in range(2):
    allocation.settle()
usual = resident()
for share in (0.5, 1.5, 0.5):
    blocks = [torch.ones(2**18) for _ in range(int(share * usual / 2**20))]
    last, blocks = blocks[-1], None
    before = resident()
    allocation.settle()
    print(before / usual, resident() / usual)
"""


def test_memory_that_is_kept_goes_back_when_it_is_twice_what_a_step_takes():
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    less, more, fresh = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    assert 1.4 < less[0] < 2 and less[1] == pytest.approx(less[0], abs=0.02), "kept for the next step"
    assert more[0] > 2 and more[1] < 1.2, "given back"
    assert fresh[1] == pytest.approx(fresh[0], abs=0.02), "what a step takes is seen anew"


@pytest.mark.skipif(not products.possible(), reason="the processor has no registers that MKL could leave idle")
@pytest.mark.parametrize(("inputs", "outputs"), [(24, 72), (72, 24)])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("trains", ["all", "states", "weight", "bias"])
def test_products_are_those_of_linear_layers(inputs, outputs, has_bias, trains):
    torch.manual_seed(0)
    parts = {"states": torch.randn(100, inputs), "weight": torch.randn(outputs, inputs)}
    parts |= {"bias": torch.randn(outputs)} if has_bias else {}
    found = []
    for product in (products.Linear.apply, torch.nn.functional.linear):
        leaves = {name: part.clone().requires_grad_(trains in ("all", name)) for name, part in parts.items()}
        answer = product(leaves["states"], leaves["weight"], leaves.get("bias"))
        trained = [leaf for leaf in leaves.values() if leaf.requires_grad]
        found.append([answer, *(torch.autograd.grad(answer.square().sum(), trained) if trained else ())])
    for ours, torchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-3)


def test_the_configuration_knows_the_tricks():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    [names] = [branch["items"]["enum"] for branch in schema["properties"]["training"]["properties"]["engine"]["oneOf"]
               if branch["type"] == "array"]  # fmt: skip
    assert set(names) == set(TRICKS)
    with pytest.raises(ValueError, match="fats"):
        Engine(torch.nn.Linear(1, 1), {"fats"}, 0)
