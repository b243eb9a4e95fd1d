"""What methods must keep to under every task's head: every method on one task, a few of each kind on the others."""

import functools
import shutil

import numpy as np
import pytest
import torch

from peftstudy import backbones, methods, tasks, tokens
from peftstudy.engine import Engine
from peftstudy.shapes import read_shape

EVERY_METHOD_ON = "extractive-qa"  # whose texts are windows of an example, and which reads every token
A_FEW = ("full", "bitfit", "prompt", "lora")
TASKS = [name for name, task in tasks.registered().items() if name != "classification" and not task.writes]
"""Of tasks that write, see test_writing."""
PAIRS = [(task, method) for task in TASKS
         for method in (methods.able(task) if task == EVERY_METHOD_ON else A_FEW)]  # fmt: skip
BATCH = np.array([3, 17, 40, 41, 66, 90])
STEPS = 31


def adapted(folder, name, task, classes, seed=1):
    method = methods.create(name)
    loaded = backbones.load(folder, task, classes, seed, method.attention)
    return methods.adapt(method, loaded, backbones.shape_for(folder, task), seed)


def logits(model, name, task, data, index):
    """Return what the head says, by the plain loop."""
    engine = Engine(model, "plain", 0, methods.create(name).extra_tokens, reads_first=task.reads_first)
    return task.logits(engine, data, index)


@pytest.fixture(scope="module")
def bert(make_backbone, tmp_path_factory):
    """A backbone whose random weights are large enough that their differences matter to a head."""
    import transformers

    folder = tmp_path_factory.mktemp("wide") / "bert"
    shutil.copytree(make_backbone("bert"), folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    config.initializer_range = 0.2
    torch.manual_seed(0)
    transformers.AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def fitted(bert, make_task_tokens):
    """Return a function that fits one batch without dropout, once: the model, its data, and the two losses."""

    @functools.cache
    @torch.enable_grad()  # also when it is first asked for where gradients are off
    def fit(name, of):
        task, data = tasks.create(of), tokens.load(make_task_tokens(of, "bert"))
        result = adapted(bert, name, task, len(data.about["labels"]))
        before = {key: value.detach().clone() for key, value in result.model.named_parameters()}
        targets = torch.from_numpy(task.targets(data, BATCH))
        rate = min(0.01, max(0.003, methods.registered()[name].learning_rates[-1]))
        optimizer = torch.optim.AdamW([p for p in result.model.parameters() if p.requires_grad], lr=rate)
        method, losses = methods.create(name), []

        def loss():
            return task.loss(logits(result.model, name, task, data, BATCH), targets)

        method.prepare(result.model, STEPS, lambda *_: iter([loss()]))
        for step in range(1, STEPS + 1):
            losses.append(loss())
            (losses[-1] + (method.penalty(result.model) or 0.0)).backward()
            optimizer.step()
            method.after_step(result.model, step)
            optimizer.zero_grad()
        return result, before, task, data, [float(value.detach()) for value in losses]

    return fit


@pytest.mark.parametrize(("of", "name"), PAIRS)
def test_trains_method_and_head_by_formula_and_learns(of, name, fitted, bert):
    result, before, task, data, losses = fitted(name, of)
    assert losses[-1] < 0.9 * losses[0]
    moved = {key for key, value in result.model.named_parameters() if not torch.equal(value, before[key])}
    assert moved <= result.method_names | result.head_names, "a frozen parameter moved"
    assert {key for key in result.head_names if key.endswith("weight")} <= moved, "the head stood still"
    assert result.method_parameters == methods.create(name).count(backbones.shape_for(bert, task))
    width = task.outputs(len(data.about["labels"]))
    pooler = task.reads_first * (32 * 32 + 32)  # fresh, for masked-language modelling trains none
    assert result.head_parameters == 32 * width + width + pooler


@pytest.mark.parametrize(("of", "name"), PAIRS)
@torch.no_grad()
def test_saves_and_loads_bit_for_bit(of, name, fitted, bert):
    result, _, task, data, _ = fitted(name, of)
    again = adapted(bert, name, task, len(data.about["labels"])).model
    expected = logits(result.model, name, task, data, BATCH)
    assert not torch.equal(logits(again, name, task, data, BATCH), expected)
    methods.load_trained(again, methods.trained_state(result.model))
    assert torch.equal(logits(again, name, task, data, BATCH), expected)


@pytest.mark.parametrize(("of", "name"), PAIRS)
@torch.no_grad()
def test_padding_changes_nothing(of, name, fitted):
    result, _, task, data, _ = fitted(name, of)
    alone = [logits(result.model, name, task, data, BATCH[i : i + 1]) for i in range(len(BATCH))]
    together = logits(result.model, name, task, data, BATCH)
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("of", [name for name in TASKS if not tasks.registered()[name].reads_first])
@torch.no_grad()
def test_a_prompt_s_own_tokens_are_read_by_no_head(of, fitted):
    """Trap 6: they stand behind the first token, and the model gives logits for them, too."""
    result, _, task, data, _ = fitted("prompt", of)
    index = BATCH[:1]
    texts = data.texts(index)[:1]
    output = result.model(**{name: torch.from_numpy(array) for name, array in data.batch(texts).items()})
    scores = output.start_logits if of == "extractive-qa" else output.logits[..., 0]
    assert scores.shape[1] == data.lengths[texts[0]] + 20
    kept = torch.cat([scores[0, :1], scores[0, 21:]])[torch.from_numpy(task.read(data, texts))]
    assert torch.equal(logits(result.model, "prompt", task, data, index)[: len(kept), 0], kept)


def test_a_head_over_all_tokens_leaves_the_pooler_out(tmp_path):
    """BERT's weights may hold one; models that read every token have none, so `full` does not count it."""
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = transformers.BertModel(transformers.BertConfig(vocab_size=50, max_position_embeddings=32, **sizes))
    model.save_pretrained(tmp_path)
    assert read_shape(tmp_path).pooler
    for name, pooler in (("tagging", False), ("regression", True)):
        task = tasks.create(name)
        shape = backbones.shape_for(tmp_path, task)
        assert shape.pooler == pooler
        assert adapted(tmp_path, "full", task, 3).method_parameters == shape.parameters


def test_made_examples_have_windows_where_they_are_to_be_tested(make_task_tokens):
    data = tokens.load(make_task_tokens("extractive-qa", "bert"))
    assert (np.diff(data.arrays["texts"][[BATCH, BATCH + 1]], axis=0) > 1).any()
