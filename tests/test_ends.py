"""What ends a text, of backbones whose tokenizer names a mark that their training never showed."""

import shutil

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from peftstudy import ends, files, making, tokens
from peftstudy.errors import StudyError
from peftstudy.specs import Backbone

NOTHING = {"tables": [], "exclude": [], "base": [], "checkpoint": None}
WORDS = {"bart": "model.shared.weight", "gpt2": "transformer.wte.weight", "llama": "model.embed_tokens.weight",
         "t5": "shared.weight"}  # fmt: skip


@pytest.fixture
def unlearned(request, make_backbone, tmp_path):
    """A backbone of the family asked for, whose end mark and three other tokens have all but the same row."""
    folder = shutil.copytree(make_backbone(request.param), tmp_path / "given")
    (folder / "manifest.json").unlink()
    weights = load_file(folder / "model.safetensors")
    rows = weights[WORDS[request.param]]
    end = AutoTokenizer.from_pretrained(folder).eos_token_id
    for number, other in enumerate((100, 150, 200)):
        rows[other] = rows[end] * (1 + 0.01 * number)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def encode(make_task_tokens, backbone, task="generation"):
    family = files.read_json(backbone / "config.json")["model_type"]
    examples = make_task_tokens(task, family).parent / "examples.parquet"
    tokens.write(examples, backbone, 24, backbone.parent / task)
    return tokens.load(backbone.parent / task)


@pytest.mark.parametrize("unlearned", WORDS, indirect=True)
def test_a_mark_that_weights_cannot_tell_from_others_is_refused(unlearned, make_task_tokens):
    with pytest.raises(StudyError) as refused:
        encode(make_task_tokens, unlearned)
    assert str(refused.value) == (
        f"{unlearned}: the weights cannot tell the end mark '</s>' from 3 other tokens (their rows of the vocabulary "
        "are as good as equal), so that hardly a text would end; say under this backbone what its training texts ended "
        "with (such as end: '<s>'), or end: '</s>' to have it so."
    )
    encode(make_task_tokens, unlearned, "classification")


@pytest.mark.parametrize("unlearned", ["llama"], indirect=True)
@pytest.mark.parametrize("mark", ["<s>", "</s>"])
def test_texts_end_with_what_the_study_says(unlearned, mark, make_task_tokens, tmp_path):
    making.make(Backbone("named", folder=str(unlearned), end=mark), tmp_path / "named", **NOTHING)
    found = encode(make_task_tokens, tmp_path / "named")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "named")
    number = tokenizer.convert_tokens_to_ids(mark)
    assert tokenizer.eos_token == mark and found.about["end_id"] == number
    assert files.read_json(tmp_path / "named" / "config.json")["eos_token_id"] == number
    lasts = found.arrays["targets"][1:] - 1
    assert set(found.arrays["target_ids"][lasts].tolist()) == {number}
    assert set(found.input_ids[found.offsets[1:] - 1].tolist()) == {number}, "so do the sources"
    before = AutoTokenizer.from_pretrained(unlearned)
    assert tokenizer("the new of it")["input_ids"][:4] == before("the new of it")["input_ids"][:4]


def test_a_mark_that_no_tokenizer_knows_is_refused(make_backbone, tmp_path):
    backbone = Backbone("named", folder=str(make_backbone("gpt2")), end="<end>")
    with pytest.raises(StudyError) as refused:
        making.make(backbone, tmp_path / "named", **NOTHING)
    assert str(refused.value) == (
        "backbones.named.end: found '<end>', which is no token of this backbone (its special ones: </s>, <s>, <unk>)."
    )
    assert not (tmp_path / "named").exists()


@pytest.mark.parametrize("family", WORDS)
def test_rows_that_differ_are_told_apart(family, make_backbone):
    folder = make_backbone(family)
    ends.refuse_unlearned(folder, AutoTokenizer.from_pretrained(folder))
