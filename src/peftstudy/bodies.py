"""Tiny random bodies of each family, with tokenizers: what methods are held against the contract on."""

import copy
import functools
import io
import pickle
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from peftstudy import backbones, tasks
from peftstudy.tasks import Task

TASK = tasks.create("classification")
NAMES = ("w11", "w12 w13", "w14")
"""What classes are called."""
WORDS = 200
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


FRAMES: Mapping[str, tuple[str, str]] = {
    "bert": ("<s> $A </s>", "<s> $A </s> $B:1 </s>:1"),
    "bart": ("<s> $A </s>", "<s> $A </s> $B </s>"),
    "t5": ("$A </s>", "$A </s> $B </s>"),
    "gpt2": ("$A", "$A $B"),
    "llama": ("<s> $A", "<s> $A $B"),
}
"""Family -> how its tokenizers frame a text, and two; the other families' are BERT's."""


@functools.cache
def _folders() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


@functools.cache
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
    tokenizer(backbone).save_pretrained(path)
    return path


@functools.cache
def tokenizer(backbone: str) -> transformers.PreTrainedTokenizerFast:
    """Return one of words, w5 to w199 by their numbers, which frames texts as the family has them."""
    family = BACKBONES[backbone][0]
    marks = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    if family == "roberta":  # whose padding is 1
        marks[:2] = reversed(marks[:2])
    words = {word: number for number, word in enumerate([*marks, *(f"w{number}" for number in range(5, WORDS))])}
    made = Tokenizer(models.WordLevel(words, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    single, pair = FRAMES.get(family, FRAMES["bert"])
    known = [(mark, words[mark]) for mark in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=known)
    types = ["token_type_ids"] if family in ("bert", "electra") else []
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        model_input_names=["input_ids", *types, "attention_mask"],
    )  # fmt: skip


def load(
    backbone: str, seed: int = 1, attention: str = "sdpa", task: Task = TASK, labels: Sequence[str] = NAMES
) -> backbones.Loaded:
    """Return the body under a task's head: a copy of its own, for methods change what they are given."""
    return _loaded(backbone, seed, attention, task.name, tuple(labels)).copy()


@functools.lru_cache(maxsize=64)
def _loaded(backbone: str, seed: int, attention: str, task: str, labels: tuple[str, ...]) -> "_Kept":
    return _Kept(backbones.load(folder(backbone), tasks.create(task), len(labels), seed, attention, labels))


class _Kept:
    """Something with tensors in it, pickled without them, of which copies take a quarter of what deepcopy does."""

    def __init__(self, thing: Any) -> None:
        self.tensors: list[torch.Tensor] = []
        numbers: dict[int, int] = {}

        def number(part: Any) -> int | None:
            if not isinstance(part, torch.Tensor):
                return None
            if id(part) not in numbers:
                numbers[id(part)] = len(self.tensors)
                self.tensors.append(part)
            return numbers[id(part)]

        file = io.BytesIO()
        pickler = pickle.Pickler(file)
        pickler.persistent_id = number
        pickler.dump(thing)
        self.rest = file.getvalue()

    def copy(self) -> Any:
        copied = functools.cache(lambda number: copy.deepcopy(self.tensors[number]))  # tied weights stay tied
        unpickler = pickle.Unpickler(io.BytesIO(self.rest))
        unpickler.persistent_load = copied
        return unpickler.load()
