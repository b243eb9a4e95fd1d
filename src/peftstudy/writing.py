"""Texts that a model writes: what it says of given ones, token by token, and those that it writes itself.

A decoder reads the source and writes on behind it; of an encoder-decoder, the encoder reads the source and the
decoder writes. The tokens of sources and targets are the same for both (see tasks.generation).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peftstudy.backbones import quiet
from peftstudy.tokens import Tokens, joined


def library_model(model: nn.Module) -> Any:
    """Return the transformers model that a method may have wrapped."""
    from transformers import PreTrainedModel

    return next(module for module in model.modules() if isinstance(module, PreTrainedModel))


def vocabulary_layer(model: nn.Module) -> nn.Module | None:
    """Return the layer that gives each word of the vocabulary its logit; None where a model has none."""
    from transformers import PreTrainedModel

    found = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    return found.get_output_embeddings() if found is not None else None


def target_logits(model: nn.Module, tokens: Tokens, index: np.ndarray, extra_tokens: int, all_tokens: bool) -> Tensor:
    """Return the logits at each token of the targets, given those before it, shape (target tokens, vocabulary).

    extra_tokens: how many the model itself puts before the sources.
    all_tokens: whether the vocabulary's logits are computed at every token, as the model by itself does.
    """
    library = library_model(model)
    device = next(model.parameters()).device
    sources, targets = _pieces(tokens, index)
    if library.config.is_encoder_decoder:
        inputs = padded(sources, tokens.about["pad_id"])
        starts = [np.concatenate([[library.config.decoder_start_token_id], target[:-1]]) for target in targets]
        written = padded(starts, tokens.about["pad_id"])
        inputs |= {f"decoder_{name}": tensor for name, tensor in written.items()}
        asked = written["attention_mask"].bool()
    else:
        texts = together(tokens, index)
        inputs = padded([ids for ids, _ in texts], tokens.about["pad_id"])
        asked = torch.zeros_like(inputs["attention_mask"], dtype=torch.bool)
        for row, (ids, first) in enumerate(texts):
            asked[row, first : len(ids)] = True
        asked = nn.functional.pad(asked, (extra_tokens, 0))
    asked = asked.to(device)
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    _tell(model, asked.int().argmax(1))
    if all_tokens:
        return model(**inputs).logits[asked]
    with _at(library.get_output_embeddings(), asked):
        return model(**inputs).logits


def _tell(model: nn.Module, begins: Tensor) -> None:
    """Tell whom it concerns (see changes.infixes) which token of each row the first one written follows from."""
    for module in model.modules():
        if hasattr(module, "begins"):
            module.begins = begins


@contextmanager
def _at(layer: nn.Module, asked: Tensor) -> Iterator[None]:
    """Let the vocabulary layer see the chosen tokens alone, one after the other."""
    hook = layer.register_forward_pre_hook(lambda module, args: (args[0][asked], *args[1:]))
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def write(
    model: nn.Module, tokens: Tokens, index: np.ndarray, longest: int, beams: int, extra_tokens: int = 0
) -> list[np.ndarray]:
    """Return the tokens that the model writes behind each source, to the end of its text or to `longest` of them.

    beams: how many beginnings are kept at each token (beam search); 1 takes the most probable token each time.
    extra_tokens: how many tokens the model itself puts before the sources.
    Nothing is drawn at random, and what a checkpoint's own generation_config.json asks for counts not.
    """
    from transformers import GenerationConfig

    library = library_model(model)
    device = next(model.parameters()).device
    sources, _ = _pieces(tokens, index)
    # A decoder writes on at the end, so its padding stands in front.
    inputs = padded(sources, tokens.about["pad_id"], left=not library.config.is_encoder_decoder)
    settings = GenerationConfig(
        max_new_tokens=longest, num_beams=beams, do_sample=False, early_stopping=beams > 1,
        pad_token_id=tokens.about["pad_id"], eos_token_id=tokens.about["end_id"],
        # The adapters library's layers know the cache by an older name, and would see none of what was before.
        use_cache=not hasattr(library, "adapters_config"),
        bos_token_id=library.config.bos_token_id, decoder_start_token_id=getattr(
            library.config, "decoder_start_token_id", None),
    )  # fmt: skip
    generate: Callable = getattr(model, "generate", library.generate)
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    _tell(model, torch.tensor([extra_tokens + inputs["input_ids"].shape[1] - 1], device=device))
    # A padding that is the end mark, as GPT-2's, is taken for one on the wrong side, which would be said each time.
    with quiet(), _positions_by_mask(library):
        written = generate(**inputs, generation_config=settings, use_model_defaults=False)
    begin = 1 if library.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    return [_to_the_end(row[begin:], tokens.about["end_id"]) for row in written.cpu().numpy()]


@contextmanager
def _positions_by_mask(library: Any) -> Iterator[None]:
    """Let a decoder count positions from each text's first token.

    Generation does so where it finds the argument in the model's signature, and the adapters library may hide that.
    """

    def count(module: nn.Module, args: tuple, inputs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        mask = inputs["attention_mask"]
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)[:, -inputs["input_ids"].shape[1] :]
        return args, inputs | {"position_ids": positions}

    if library.config.is_encoder_decoder:
        yield
        return
    hook = library.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _to_the_end(row: np.ndarray, end: int) -> np.ndarray:
    ends = np.flatnonzero(row == end)
    return row[: ends[0]] if len(ends) else row


def together(tokens: Tokens, index: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Return what a decoder reads of some examples, and at which of its tokens the first of the target is asked for."""
    pairs = zip(*_pieces(tokens, index), strict=True)
    return [(np.concatenate([source, target[:-1]]), len(source) - 1) for source, target in pairs]


def _pieces(tokens: Tokens, index: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the tokens of some examples' sources, and of their targets."""
    sources = [tokens.input_ids[joined(tokens.offsets, [example])].astype(np.int64) for example in index]
    begins, ids = tokens.arrays["targets"], tokens.arrays["target_ids"]
    return sources, [ids[joined(begins, [example])].astype(np.int64) for example in index]


def padded(rows: list[np.ndarray], padding: int, left: bool = False) -> dict[str, Tensor]:
    """Return input_ids and attention_mask of rows of different lengths, each shape (rows, longest)."""
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), padding, dtype=np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[number, place], mask[number, place] = row, 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
