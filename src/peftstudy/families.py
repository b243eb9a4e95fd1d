"""Families of language models: where their layers and matrices are, and what their configurations call the sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

SIZES = (
    "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "vocab_size",
    "max_position_embeddings", "type_vocab_size",
)  # fmt: skip

USUAL = {
    "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072, "num_attention_heads": 12,
    "max_position_embeddings": 512, "type_vocab_size": 2,
}  # fmt: skip

ENCODER, DECODER, BOTH = "encoder", "decoder", "encoder-decoder"

MASKED, CAUSAL = "masked-language modelling", "causal language modelling"
SPANS, INFILLING = "span corruption", "text infilling"
OBJECTIVES: Mapping[str, tuple[str, ...]] = {
    MASKED: ("bag_of_words", "corrupted"),
    CAUSAL: (),
    SPANS: ("corrupted", "mean_span"),
    INFILLING: ("corrupted", "mean_span", "permute_sentences"),
}
"""What models are asked in pre-training (see peftstudy.objectives), with the settings that mean something to each."""


@dataclass(frozen=True)
class Family:
    """What sets a family apart.

    kind: whether it is an encoder, a decoder, or has one of each. The latter two write texts.
    layers: the path of its list of layers within the body.
    places: the paths of a layer's matrices within it. By its last words alone, BERT's feed-forward output.dense
    would also be the attention's.
    spelt: what its configuration calls a size, where it is not BERT's name.
    without: the sizes of SIZES that it has not.
    more: further names of its configuration, and the size by BERT's name that each of them has, when it is pre-trained
    here. head_width: what its configuration calls the width of an attention head, where that is asked for.
    fixed: what its configuration says beside the sizes, when it is pre-trained here.
    objective: what it is pre-trained by, one of OBJECTIVES.
    position_offset: rows of the position table before the first token's: RoBERTa counts from its padding id, 1,
    plus one.
    sdpa: whether it may use torch's attention: transformers has none for some, and under DistilBERT's the prefixes of
    the adapters library let tokens attend to padding, under those of families that write they hide the text.
    counts_itself: whether its positions cannot be given: it numbers tokens as they stand, or knows distances alone.
    embeddings: the paths of the modules that embed words and positions.
    decoder: the path of the decoder's layers, where `layers` are an encoder's.
    decoder_places: the paths of their matrices; a decoder attends twice.
    spread: what its configuration calls the standard deviation with which word embeddings are drawn.
    gate: the path of the matrix beside that of `intermediate` whose outputs multiply its own, where there is one.
    """

    layers: str
    places: Mapping[str, str]
    spelt: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)
    head_width: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    position_offset: int = 0
    sdpa: bool = True
    counts_itself: bool = False
    kind: str = ENCODER
    objective: str = MASKED
    embeddings: tuple[str, ...] = ("embeddings",)
    decoder: str = ""
    decoder_places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spread: str = "initializer_range"
    gate: str = ""

    @property
    def fused(self) -> bool:
        """Whether one matrix makes queries, keys and values, so that any of the three names it."""
        return self.places["query"] == self.places["value"]

    @property
    def writes(self) -> bool:
        """Whether it can write a text."""
        return self.kind != ENCODER

    def configuration(self, sizes: Mapping[str, Any]) -> dict[str, Any]:
        """Return what its configuration says of sizes by BERT's names; what is not given is BERT-base's."""
        sizes = {name: size for name, size in (USUAL | dict(sizes)).items() if name not in self.without}
        named = {self.spelt.get(name, name): size for name, size in sizes.items()}
        named |= {name: sizes[size] for name, size in self.more.items()}
        if self.head_width:
            named[self.head_width] = sizes["hidden_size"] // sizes["num_attention_heads"]
        return named | dict(self.fixed)

    @property
    def language_model(self) -> str:
        """The transformers Auto class of its models as they come from pre-training."""
        return {DECODER: "AutoModelForCausalLM", BOTH: "AutoModelForSeq2SeqLM"}.get(self.kind, "AutoModelForMaskedLM")

    def list_of_layers(self, body: Any) -> list[nn.Module]:
        """Return the layers of a family's body, the first first; a decoder's behind its encoder's."""
        return [layer for path in (self.layers, self.decoder) if path for layer in body.get_submodule(path)]


_BERT = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention-output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}
_DISTILBERT = {
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "attention-output": "attention.out_lin",
    "intermediate": "ffn.lin1",
    "output": "ffn.lin2",
}
_MODERNBERT = {  # which keeps queries, keys and values in one matrix: any of the three names it
    "query": "attn.Wqkv",
    "key": "attn.Wqkv",
    "value": "attn.Wqkv",
    "attention-output": "attn.Wo",
    "intermediate": "mlp.Wi",
    "output": "mlp.Wo",
}
_DEBERTA = {name: f"{place}_proj" if ".self." in place else place for name, place in _BERT.items()}

_GPT2 = {  # as in ModernBERT
    "query": "attn.c_attn",
    "key": "attn.c_attn",
    "value": "attn.c_attn",
    "attention-output": "attn.c_proj",
    "intermediate": "mlp.c_fc",
    "output": "mlp.c_proj",
}
_LLAMA = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "attention-output": "self_attn.o_proj",
    "intermediate": "mlp.up_proj",
    "output": "mlp.down_proj",
}
_T5 = {
    "query": "layer.0.SelfAttention.q",
    "key": "layer.0.SelfAttention.k",
    "value": "layer.0.SelfAttention.v",
    "attention-output": "layer.0.SelfAttention.o",
    "intermediate": "layer.1.DenseReluDense.wi",
    "output": "layer.1.DenseReluDense.wo",
}
_BART = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "attention-output": "self_attn.out_proj",
    "intermediate": "fc1",
    "output": "fc2",
}


def _crossed(places: Mapping[str, str], own: str, other: str) -> dict[str, tuple[str, ...]]:
    """Return the places in a decoder's layer, where attention to the encoder stands behind that to itself."""
    return {
        name: (place, place.replace(own, other)) if own in place else (place.replace("layer.1", "layer.2"),)
        for name, place in places.items()
    }


ENCODERS: Mapping[str, Family] = {
    "bert": Family("encoder.layer", _BERT),
    "roberta": Family("encoder.layer", _BERT, position_offset=2),
    "electra": Family("encoder.layer", _BERT, more={"embedding_size": "hidden_size"}, sdpa=False),
    "distilbert": Family(
        "transformer.layer",
        _DISTILBERT,
        {
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "intermediate_size": "hidden_dim",
            "num_attention_heads": "n_heads",
            "hidden_act": "activation",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
        },
        without=("type_vocab_size",),
        sdpa=False,
        counts_itself=True,
    ),
    "deberta-v2": Family(
        "encoder.layer",
        _DEBERTA,
        fixed={  # as DeBERTa-v3's (He et al., 2023), but for the number of buckets, which suits short texts
            "relative_attention": True,
            "position_buckets": 32,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
        sdpa=False,
        counts_itself=True,
    ),
    "modernbert": Family(
        "layers",
        _MODERNBERT,
        {"hidden_act": "hidden_activation", "layer_norm_eps": "norm_eps"},
        fixed={"reference_compile": False},  # compiling takes longer than it saves on small models
        without=("type_vocab_size",),
        counts_itself=True,
    ),
}

WRITERS: Mapping[str, Family] = {
    "gpt2": Family(
        "h",
        _GPT2,
        {
            "hidden_size": "n_embd",
            "num_hidden_layers": "n_layer",
            "intermediate_size": "n_inner",
            "num_attention_heads": "n_head",
            "max_position_embeddings": "n_positions",
            "hidden_act": "activation_function",
            "hidden_dropout_prob": "resid_pdrop",
            "attention_probs_dropout_prob": "attn_pdrop",
            "layer_norm_eps": "layer_norm_epsilon",
        },
        without=("type_vocab_size",),
        sdpa=False,
        kind=DECODER,
        objective=CAUSAL,
        embeddings=("wte", "wpe"),
    ),
    "llama": Family(
        "layers",
        _LLAMA,
        {"layer_norm_eps": "rms_norm_eps", "attention_probs_dropout_prob": "attention_dropout"},
        fixed={"tie_word_embeddings": True},  # of small models a second vocabulary matrix would be the larger part
        without=("type_vocab_size",),
        sdpa=False,
        kind=DECODER,
        objective=CAUSAL,
        embeddings=("embed_tokens",),
        gate="mlp.gate_proj",
    ),
    "t5": Family(
        "encoder.block",
        _T5,
        {
            "hidden_size": "d_model",
            "num_hidden_layers": "num_layers",
            "intermediate_size": "d_ff",
            "num_attention_heads": "num_heads",
            "max_position_embeddings": "n_positions",
            "hidden_dropout_prob": "dropout_rate",
            "layer_norm_eps": "layer_norm_epsilon",
        },
        without=("type_vocab_size",),
        sdpa=False,
        kind=BOTH,
        objective=SPANS,
        head_width="d_kv",
        embeddings=("shared",),
        spread="initializer_factor",
        decoder="decoder.block",
        decoder_places=_crossed(_T5, "layer.0.SelfAttention", "layer.1.EncDecAttention"),
    ),
    "bart": Family(
        "encoder.layers",
        _BART,
        {
            "hidden_size": "d_model",
            "num_hidden_layers": "encoder_layers",
            "intermediate_size": "encoder_ffn_dim",
            "num_attention_heads": "encoder_attention_heads",
            "hidden_act": "activation_function",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
        },
        without=("type_vocab_size",),
        sdpa=False,
        kind=BOTH,
        objective=INFILLING,
        more={
            "decoder_layers": "num_hidden_layers",
            "decoder_ffn_dim": "intermediate_size",
            "decoder_attention_heads": "num_attention_heads",
        },
        embeddings=(
            "shared", "encoder.embed_positions", "encoder.layernorm_embedding", "decoder.embed_positions",
            "decoder.layernorm_embedding",
        ),
        spread="init_std",
        decoder="decoder.layers",
        decoder_places=_crossed(_BART, "self_attn", "encoder_attn"),
    ),
}  # fmt: skip

FAMILIES: Mapping[str, Family] = {**ENCODERS, **WRITERS}
