"""Backbones: shapes, loading, random weights, copies and what is refused."""

import dataclasses
import json
import logging
import shutil

import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

from peftstudy import backbones, bodies, tasks
from peftstudy.errors import StudyError
from peftstudy.families import ENCODERS
from peftstudy.files import read_json, sha256
from peftstudy.shapes import Shape, planned_shape, read_shape, read_tensors, shape_of

TASK = tasks.create("classification")
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "num_attention_heads": 2, "vocab_size": 200,
    "max_position_embeddings": 66, "type_vocab_size": 2,
}  # fmt: skip
ROBERTA_HEAD = {f"classifier.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("weight", "bias")}
BERT_HEAD = {"classifier.weight", "classifier.bias"}
POOLER = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
KINDS = {
    "bert-masked": (transformers.BertConfig, transformers.BertForMaskedLM, BERT_HEAD | POOLER),
    "bert-with-pooler": (transformers.BertConfig, transformers.BertModel, BERT_HEAD),
    "roberta-masked": (transformers.RobertaConfig, transformers.RobertaForMaskedLM, ROBERTA_HEAD),
    "roberta-with-pooler": (transformers.RobertaConfig, transformers.RobertaModel, ROBERTA_HEAD),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def save_tokenizer(folder, size):
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])}
    words |= {f"w{number}": number for number in range(5, size)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(words, unk_token="[UNK]"))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def build(folder, kind="bert-with-pooler", ids=200, **save):
    configuration, model, _ = KINDS[kind]
    torch.manual_seed(0)
    model(configuration(**SIZES)).save_pretrained(folder, **save)
    save_tokenizer(folder, ids)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of each kind."""
    return {kind: build(tmp_path_factory.mktemp("backbones") / kind, kind) for kind in KINDS}


@pytest.fixture
def folder(made, tmp_path):
    """A BERT folder to spoil."""
    return shutil.copytree(made["bert-with-pooler"], tmp_path / "bert")


@every_kind
def test_shape_counts_the_body(kind, made):
    family, pooled = kind.split("-")[0], kind == "bert-with-pooler"
    shape = read_shape(made[kind])
    assert shape == Shape(family, 32, 2, 48, 2, 200, 66 if family == "bert" else 64, 2, pooled)
    model = transformers.AutoModel.from_pretrained(made[kind], add_pooling_layer=pooled)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())


@every_kind
def test_load_names_the_fresh_parameters(kind, made):
    loaded = backbones.load(made[kind], TASK, 3, seed=1)
    assert loaded.head == KINDS[kind][2]
    assert not loaded.model.training
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    stored = load_file(made[kind] / "model.safetensors")
    prefix = loaded.model.base_model_prefix
    for name, parameter in loaded.model.named_parameters():
        if name not in loaded.head:
            held = stored.get(name, stored.get(name.removeprefix(f"{prefix}.")))
            assert torch.equal(parameter, held)


@every_kind
def test_the_seed_fixes_the_head(kind, made):
    def weights(seed, attention="sdpa"):
        torch.rand(seed + 1)
        loaded = backbones.load(made[kind], TASK, 3, seed, attention)
        return {name: loaded.model.get_parameter(name) for name in loaded.head}

    first, same, eager, other = weights(1), weights(1), weights(1, "eager"), weights(2)
    assert all(torch.equal(first[name], same[name]) and torch.equal(first[name], eager[name]) for name in first)
    assert all(first[name].std() > 0 for name in first if name.endswith("weight"))
    assert not any(torch.equal(first[name], other[name]) for name in first if name.endswith("weight"))


def test_load_takes_attention_and_width(made):
    model = backbones.load(made["roberta-masked"], TASK, 7, 0, "eager").model
    assert model.config._attn_implementation == "eager" and model.num_labels == 7
    assert model.config.hidden_dropout_prob == 0.1


def test_load_is_quiet(made, capfd):
    heard = []
    handler = logging.Handler()
    handler.emit = heard.append
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        backbones.load(made["bert-masked"], TASK, 2, 0)
    finally:
        logger.removeHandler(handler)
    assert not heard and capfd.readouterr() == ("", "")


def test_load_widens_half_precision(folder):
    weights = load_file(folder / "model.safetensors")
    save_file({name: value.half() for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    loaded = backbones.load(folder, TASK, 2, 0)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


def test_load_reads_the_names_of_old_checkpoints(folder):
    """bert-base-uncased and its miniatures name layer norms as TensorFlow did, and store position_ids."""
    before = backbones.load(folder, TASK, 2, 0)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = {"bert.embeddings.position_ids": torch.arange(66)[None], "cls.predictions.bias": torch.zeros(200)}
    for name, value in load_file(folder / "model.safetensors").items():
        for new, spelt in old.items():
            name = name.replace(new, spelt)
        weights[f"bert.{name}"] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    after = backbones.load(folder, TASK, 2, 0)
    assert after.head == before.head and read_shape(folder).pooler
    assert all(torch.equal(value, after.model.state_dict()[name]) for name, value in before.model.state_dict().items())


def respell(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def drop(folder, pattern, **added):
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if pattern not in name}
    save_file(kept | added, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: drop(folder, "encoder.layer.1."), "weights lack bert.encoder.layer.1.*16 of the bert body"),
        (lambda folder: drop(folder, "none", **{"classifier.weight": torch.zeros(2, 32)}), "fine-tuned already"),
        (lambda folder: respell(folder, vocab_size=300), "cannot be loaded"),
        (lambda folder: respell(folder, model_type="bertt"), "unknown model_type 'bertt'.*Did you mean 'bert'"),
        (lambda folder: respell(folder, hidden_size=None), "hidden_size is None"),
        (lambda folder: (folder / "config.json").unlink(), "no such file"),
    ],
)
def test_load_refuses(folder, spoil, words):
    spoil(folder)
    with pytest.raises(StudyError, match=words):
        backbones.load(folder, TASK, 2, 0)


@pytest.mark.parametrize("family", ENCODERS)
def test_the_shape_of_a_plan_is_that_of_the_backbone(family, make_backbone):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    planned = planned_shape(family, sizes | {"max_position_embeddings": 64}, 280)
    made = read_shape(make_backbone(family))
    assert dataclasses.replace(planned, pooler=made.pooler) == made
    assert sum(p.numel() for p in transformers.AutoModel.from_pretrained(make_backbone(family)).parameters()) == (
        planned.parameters + (32 * 32 + 32 if family in ("bert", "roberta") else 0)
    )


def test_shape_of_a_configuration_that_is_not_built_yet():
    assert shape_of({"model_type": "roberta", **SIZES}).positions == 64


@every_kind
def test_randomise_keeps_all_but_the_weights(kind, made, tmp_path):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        backbones.randomise(made[kind], tmp_path / name, seed)
    sums = {name: sha256(tmp_path / name / "model.safetensors") for name in ("one", "same", "other")}
    assert sums["one"] == sums["same"] != sums["other"]
    assert read_shape(tmp_path / "one") == read_shape(made[kind])
    assert backbones.load(tmp_path / "one", TASK, 3, 1).head == KINDS[kind][2]
    before, after = (
        backbones.load(path, TASK, 3, 1).model.base_model.embeddings.word_embeddings.weight
        for path in (made[kind], tmp_path / "one")
    )
    assert not torch.equal(before, after)
    assert (tmp_path / "one" / "tokenizer.json").read_bytes() == (made[kind] / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("save", [{}, {"max_shard_size": "20KB"}])
def test_copy_folder(tmp_path, save):
    source = build(tmp_path / "source", **save)
    (source / "optimizer.pt").write_bytes(b"not wanted")
    backbones.copy_folder(source, tmp_path / "copy")
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert names == {path.name for path in source.iterdir()} - {"optimizer.pt"}
    assert read_tensors(tmp_path / "copy") == read_tensors(source)
    assert len(names) > 8 if save else "model.safetensors" in names
    first, second = (backbones.load(path, TASK, 2, 0).model.state_dict() for path in (source, tmp_path / "copy"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_electra_s_narrow_embeddings_are_what_its_configuration_says(tmp_path):
    source = bodies.folder("electra")
    assert 0 < backbones.read_shape(source).embedding < backbones.read_shape(source).hidden
    backbones.copy_folder(source, tmp_path / "copy")
    assert backbones.read_shape(tmp_path / "copy") == backbones.read_shape(source)


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_tokenizer(folder):
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)


def truncate(folder, name, size):
    path = folder / name
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json: no such file"),
        (pickled, "must be in model.safetensors; found only pytorch_model.bin"),
        (lambda folder: (folder / "model.safetensors").unlink(), "found none"),
        (without_tokenizer, "no tokenizer"),
        (lambda folder: truncate(folder, "model.safetensors", -9), "its header says"),
        (lambda folder: truncate(folder, "model.safetensors", 60), "truncated within its header"),
        (lambda folder: truncate(folder, "model.safetensors", 5), "truncated within its header"),
        (lambda folder: truncate(folder, "tokenizer.json", -9), "tokenizer.json: not a whole JSON file"),
        (lambda folder: save_tokenizer(folder, 203), "it has 203 ids, the embeddings 200 rows"),
        (lambda folder: respell(folder, vocab_size=300), "has the shape.*200, 32.*config.json says.*300, 32"),
    ],
)
def test_copy_folder_refuses_and_leaves_nothing(folder, tmp_path, spoil, words):
    spoil(folder)
    with pytest.raises(StudyError, match=words):
        backbones.copy_folder(folder, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["bert"]


def test_missing_shard(tmp_path):
    source = build(tmp_path / "source", max_shard_size="20KB")
    shard = sorted(source.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(StudyError, match=f"{shard.name}: no such file, though"):
        read_shape(source)


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "kept").write_text("")
    with pytest.raises(ZeroDivisionError), backbones.whole_folder(tmp_path / "old") as temporary:
        (temporary / "new").write_text(str(1 // 0))
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "kept"]


def test_manifest(folder):
    backbones.write_manifest(folder, {"kind": "folder"})
    first = (folder / "manifest.json").read_bytes()
    manifest = read_json(folder / "manifest.json")
    assert manifest["kind"] == "folder" and manifest["parameters"] == read_shape(folder).parameters
    weights = next(entry for entry in manifest["files"] if entry["name"] == "model.safetensors")
    assert weights["sha256"] == sha256(folder / "model.safetensors")
    backbones.write_manifest(folder, {"kind": "folder"})
    assert (folder / "manifest.json").read_bytes() == first
    drop(folder, "none", **{"extra": torch.zeros(1)})
    backbones.write_manifest(folder, {"kind": "folder"})
    assert read_json(folder / "manifest.json")["sha256"] != manifest["sha256"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "deberta-v2", "conv_kernel_size": 3}, "conv_kernel_size is 3; only 0 is known"),
        ({"model_type": "deberta-v2", "relative_attention": True, "share_att_key": False}, "share_att_key is False"),
        ({"model_type": "modernbert", "mlp_bias": True}, "mlp_bias is true"),
        ({"model_type": "distilbert"}, "dim is None"),
    ],
)
def test_variants_whose_parameters_are_not_known_are_refused(config, words):
    with pytest.raises(StudyError, match=words):
        shape_of({"conv_kernel_size": 0, **SIZES, **config})
