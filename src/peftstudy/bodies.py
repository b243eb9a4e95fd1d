"""Tiny random bodies of each family, and a batch of texts for them: what methods are held against the contract on."""

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from peftstudy import backbones, tasks
from peftstudy.families import WRITERS

TASK = tasks.create("classification")
CLASSES = 3
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "num_attention_heads": 2, "vocab_size": 200,
    "max_position_embeddings": 66, "initializer_range": 0.2,
}  # fmt: skip
TYPES = {"type_vocab_size": 2}
DISTILBERT = {
    "dim": 32, "n_layers": 2, "hidden_dim": 48, "n_heads": 2, "vocab_size": 200, "max_position_embeddings": 66,
    "initializer_range": 0.2,
}  # fmt: skip
RELATIVE = {
    "relative_attention": True, "position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm",
    "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0,
}  # fmt: skip
SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
MODERNBERT = {"local_attention": 8, "reference_compile": False}
IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "vocab_size": 200}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_inner": 48, "n_head": 2, "n_positions": 66, "initializer_range": 0.2}
LLAMA = {"num_key_value_heads": 1, "tie_word_embeddings": True}
T5 = {
    "d_model": 32, "num_layers": 2, "d_ff": 48, "num_heads": 2, "d_kv": 12, "n_positions": 66,
    "initializer_factor": 1.0, "decoder_start_token_id": 0,
}  # fmt: skip
BART = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 66, "init_std": 0.2,
    "decoder_start_token_id": 3, "forced_eos_token_id": None,
}  # fmt: skip
BACKBONES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", SIZES | TYPES | {"pooler": False}),
    "bert-with-pooler": ("bert", SIZES | TYPES | {"pooler": True}),
    "roberta": ("roberta", SIZES | TYPES | {"pooler": False}),
    "electra": ("electra", SIZES | TYPES | {"embedding_size": 16}),
    "distilbert": ("distilbert", DISTILBERT),
    "deberta-v2": ("deberta-v2", SIZES | RELATIVE),
    "modernbert": ("modernbert", SIZES | SPECIAL | MODERNBERT),
    "modernbert-with-head": ("modernbert", SIZES | SPECIAL | MODERNBERT),
    "gpt2": ("gpt2", GPT2 | IDS),
    "llama": ("llama", SIZES | LLAMA | IDS),
    "t5": ("t5", T5 | IDS),
    "bart": ("bart", BART | IDS),
}
"""Families, and the sizes of the bodies that stand for them: random ones, but otherwise as published."""


@cache
def _folders() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


@cache
def folder(backbone: str) -> Path:
    """Return the folder of the body of that name, which is made once."""
    family, sizes = BACKBONES[backbone]
    sizes = dict(sizes)
    pooling = {"add_pooling_layer": sizes.pop("pooler")} if "pooler" in sizes else {}
    path = Path(_folders().name) / backbone
    config = transformers.AutoConfig.for_model(family, **sizes)
    torch.manual_seed(0)
    kind = transformers.AutoModelForMaskedLM if backbone.endswith("-head") else transformers.AutoModel
    kind.from_config(config, **pooling).save_pretrained(path)
    return path


def load(backbone: str, seed: int = 1, attention: str = "sdpa", classes: int = CLASSES) -> backbones.Loaded:
    return backbones.load(folder(backbone), TASK, classes, seed, attention)


def batch(backbone: str, lengths: tuple[int, ...] = (9, 5, 12, 7, 3, 12)) -> tuple[dict[str, Tensor], Tensor]:
    """Random texts, padded on the right, the second halves being second texts for BERT; and labels."""
    rng = torch.Generator().manual_seed(7)
    padding = 1 if backbone == "roberta" else 0
    ids = torch.full((len(lengths), max(lengths)), padding)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(5, 200, (length,), generator=rng)
        mask[row, :length] = 1
        types[row, length // 2 : length] = 1
    ids[:, 0] = 2
    if BACKBONES[backbone][0] in WRITERS:
        ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = 3  # T5 and BART look for the end mark
    inputs = {"input_ids": ids, "attention_mask": mask}
    if backbone in ("bert", "bert-with-pooler", "electra"):
        inputs["token_type_ids"] = types
    return inputs, torch.arange(len(lengths)) % CLASSES
