"""What heads that read every token mean for methods, beside the contract (see test_contract)."""

import numpy as np
import pytest
import torch

from peftstudy import backbones, contract, methods, tasks, tokens
from peftstudy.engine import Engine
from peftstudy.shapes import read_shape

READ_ALL = [name for name, task in tasks.registered().items() if not (task.reads_first or task.writes)]
BATCH = np.array([3, 17, 40, 41, 66, 90])


def adapted(folder, name, task, classes, seed=1):
    method = methods.create(name)
    loaded = backbones.load(folder, task, classes, seed, method.attention)
    return methods.adapt(method, loaded, backbones.shape_for(folder, task), seed)


def logits(model, name, task, data, index):
    """Return what the head says, by the plain loop."""
    engine = Engine(model, "plain", 0, methods.create(name).extra_tokens, reads_first=task.reads_first)
    return task.logits(engine, data, index)


@pytest.mark.parametrize("of", READ_ALL)
@torch.no_grad()
def test_a_prompt_s_own_tokens_are_read_by_no_head(of, bert, make_task_tokens):
    """Trap 6: they stand behind the first token, and the model gives logits for them, too."""
    task, data = tasks.create(of), tokens.load(make_task_tokens(of, "bert"))
    result, index = adapted(bert, "prompt", task, len(data.about["labels"])), BATCH[:1]
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


def test_modernbert_reads_every_token_through_its_head():
    """Which its weights hold, so that `full` counts it."""
    for of in ("tagging", "classification"):
        case = contract.Case(methods.create("full"), "modernbert-with-head", of)
        assert case.shape.pooler and case.adapted().method_parameters == case.shape.parameters


def test_a_published_model_of_multiple_choice_has_one_logit():
    contract.comes_back_as_published(contract.Case(methods.create("full"), "bert", "multiple-choice"))


def test_made_examples_have_windows_where_they_are_to_be_tested(make_task_tokens):
    data = tokens.load(make_task_tokens("extractive-qa", "bert"))
    assert (np.diff(data.arrays["texts"][[BATCH, BATCH + 1]], axis=0) > 1).any()
