"""A model that reads trained vectors beside each text."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peftstudy.families import FAMILIES
from peftstudy.shapes import Shape
from peftstudy.tricks.packing import first_position


class WithVectors(nn.Module):
    """A model, and the trained vectors that it reads: shape (tokens, width), or a module that makes them."""

    def __init__(self, model: Any, prompt: Tensor | nn.Module):
        super().__init__()
        self.model = model
        self.prompt = nn.Parameter(prompt) if isinstance(prompt, Tensor) else prompt

    def vectors(self) -> Tensor:
        """Return the prompt, shape (tokens, width)."""
        return self.prompt() if isinstance(self.prompt, nn.Module) else self.prompt


class Prompted(WithVectors):
    """Put trained vectors behind the first token of every text.

    They join the word embeddings, so that the backbone adds positions and token types to them and
    normalises them with the text. Attention knows order by position embeddings alone, hence only
    the first place, which the head reads, matters to where they stand. A family that numbers places by itself reads
    them behind the text (see Followed); its head finds them behind the first token, too.
    """

    def __init__(self, model: nn.Module, prompt: Tensor | nn.Module, tokens: int, shape: Shape):
        super().__init__(model, prompt)
        self.offset = first_position(model)
        last = self.offset + shape.positions
        self.register_buffer("positions", torch.arange(last - tokens, last), persistent=False)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Any:
        """Return the model's output; all inputs have the shape (examples, length), and no text begins with padding.

        With position_ids the inputs are a packed batch, shape (1, tokens): texts without padding, one after the other.
        """
        if position_ids is not None:
            return self._packed(input_ids, token_type_ids, position_ids)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        prompt = self.vectors()
        # As transformers counts for RoBERTa, padding not counted; where BERT's padding stands is never attended to.
        places = (mask.cumsum(1) * mask + self.offset - 1).clamp(min=0)
        rows = len(input_ids)
        return self.model(
            inputs_embeds=_behind_first(self._embed(input_ids), prompt.expand(rows, -1, -1)),
            attention_mask=_behind_first(mask, mask.new_ones(rows, len(prompt))),
            token_type_ids=_behind_first(types, types.new_zeros(rows, len(prompt))),
            position_ids=_behind_first(places, self.positions.expand(rows, -1)),
        )

    def _packed(self, input_ids: Tensor, token_type_ids: Tensor, position_ids: Tensor) -> Any:
        prompt = self.vectors()
        copies = torch.ones_like(input_ids[0])
        copies[position_ids[0] == self.offset] += len(prompt)  # each text's first token makes room behind it
        token = torch.arange(len(copies), device=copies.device).repeat_interleave(copies)
        within = torch.arange(len(token), device=copies.device) - (copies.cumsum(0) - copies)[token]
        place = torch.where(within > 0, len(copies) + within - 1, token)  # behind all the text stands one prompt
        return self.model(
            inputs_embeds=torch.cat([self._embed(input_ids)[0], prompt])[place][None],
            token_type_ids=torch.cat([token_type_ids[0], torch.zeros_like(self.positions)])[place][None],
            position_ids=torch.cat([position_ids[0], self.positions])[place][None],
        )

    def _embed(self, words: Tensor) -> Tensor:
        return embed(self.model, words)


class Followed(WithVectors):
    """Put trained vectors behind the last token of every text, for encoders that number places by themselves.

    Between the text's tokens all distances stay as they are without a prompt. To the head the vectors stand behind the
    first token, as Prompted's do. The model is given some word in their place, for ModernBERT's questions take words
    alone.
    """

    def __init__(self, model: Any, prompt: Tensor | nn.Module, tokens: int):
        super().__init__(model, prompt)
        self.tokens = tokens
        self._read_at: Tensor | None = None
        model.base_model.get_input_embeddings().register_forward_hook(self._put)
        model.base_model.register_forward_hook(self._for_head)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Any:
        """Return the model's output; all inputs have the shape (examples, length), and no text begins with padding."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        inputs = {"input_ids": input_ids, "attention_mask": mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        # Where the body reads what stands at a place for the head: behind the text, or with it; padding stays.
        place = torch.arange(mask.shape[1] + self.tokens, device=mask.device).expand(len(mask), -1)
        length = mask.sum(1, keepdim=True)
        moved = torch.where(place <= self.tokens, length + place - 1, place - self.tokens)
        self._read_at = torch.where((place == 0) | (place >= length + self.tokens), place, moved)
        order = self._read_at.argsort(dim=1)
        # In the vectors' place stands the first token, which is no padding, and of the first text.
        with_room = {
            name: _behind_first(tokens, tokens[:, :1].expand(-1, self.tokens)) for name, tokens in inputs.items()
        }
        return self.model(**{name: _taken(tokens, order) for name, tokens in with_room.items()})

    def _put(self, module: nn.Module, args: tuple, embedded: Tensor) -> Tensor | None:
        if self._read_at is None:
            return None
        rows = torch.arange(len(embedded), device=embedded.device)[:, None]
        prompt = self.vectors().to(embedded.dtype).expand(len(embedded), -1, -1)
        return embedded.index_put((rows, self._read_at[:, 1 : self.tokens + 1]), prompt)

    def _for_head(self, module: nn.Module, args: tuple, output: Any) -> Any:
        if self._read_at is not None:
            output.last_hidden_state, self._read_at = _taken(output.last_hidden_state, self._read_at), None
        return output


class Preceded(WithVectors):
    """Put trained vectors before the first token of every text that a decoder, or an encoder-decoder's encoder, reads.

    They take the first positions, for a decoder's tokens see what stands before them alone. The model is given some
    word instead, in whose embeddings' place the vectors are put, so that whatever it does by words goes on working:
    looking for the last one that is no padding, writing on with a cache.
    """

    def __init__(self, model: Any, prompt: Tensor | nn.Module, tokens: int):
        super().__init__(model, prompt)
        self.config, self.tokens = model.config, tokens
        self._is_awaited = False
        self._is_read_again = False
        reading = model.base_model.get_encoder() if model.config.is_encoder_decoder else model
        reading.get_input_embeddings().register_forward_hook(self._put)
        model.base_model.register_forward_hook(self._for_head)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **inputs: Any) -> Any:
        """Return the model's output; of a decoder's, the first tokens are the prompt's."""
        if self.config.is_encoder_decoder and inputs.get("decoder_input_ids") is None:
            # One that classifies reads its text once more: that, and no words in the vectors' place.
            start = input_ids.new_full((len(input_ids), 1), self.config.decoder_start_token_id)
            inputs["decoder_input_ids"] = torch.cat([start, input_ids[:, :-1]], dim=1)
            inputs["decoder_attention_mask"] = attention_mask
            self._is_read_again = True
        return self.model(**self._with_room(input_ids, attention_mask), **inputs)

    def generate(self, input_ids: Tensor, attention_mask: Tensor, **settings: Any) -> Tensor:
        """Return what the model writes behind each text, as transformers' own method does."""
        written = self.model.generate(**self._with_room(input_ids, attention_mask), **settings)
        return written if self.config.is_encoder_decoder else written[:, self.tokens :]

    def _with_room(self, input_ids: Tensor, attention_mask: Tensor | None) -> dict[str, Tensor]:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        self._is_awaited = True
        return {
            "input_ids": nn.functional.pad(input_ids, (self.tokens, 0), value=self._word()),
            "attention_mask": nn.functional.pad(mask, (self.tokens, 0), value=1),
        }

    def _for_head(self, module: nn.Module, args: tuple, output: Any) -> Any:
        """Let the head, which looks for the last end mark among the words given, find it at its place."""
        if self._is_read_again:
            states = output.last_hidden_state
            output.last_hidden_state = torch.cat([states[:, :1].expand(-1, self.tokens, -1), states], dim=1)
            self._is_read_again = False
        return output

    def _word(self) -> int:
        """Return a word that is neither padding nor the end of a text, which models count."""
        special = {self.config.pad_token_id, *np.atleast_1d(self.config.eos_token_id).tolist()}
        return next(word for word in range(3) if word not in special)

    def _put(self, module: nn.Module, args: tuple, embedded: Tensor) -> Tensor | None:
        if not self._is_awaited:
            return None
        self._is_awaited = False  # a decoder asks for the words that it wrote, too
        prompt = self.vectors().to(embedded.dtype).expand(len(embedded), -1, -1)
        return torch.cat([prompt, embedded[:, self.tokens :]], dim=1)


class Encoder(nn.Module):
    """A prompt that a network makes from trained vectors: peft's, as in P-tuning (Liu et al., 2021)."""

    def __init__(self, tokens: int, width: int, inner: int, kind: str):
        from peft import PromptEncoder, PromptEncoderConfig

        super().__init__()
        config = PromptEncoderConfig(
            encoder_reparameterization_type=kind, num_virtual_tokens=tokens, token_dim=width,
            num_transformer_submodules=1, encoder_hidden_size=inner, encoder_dropout=0.0,
        )  # fmt: skip
        self.network = PromptEncoder(config)
        self.register_buffer("tokens", torch.arange(tokens), persistent=False)

    def forward(self) -> Tensor:
        return self.network(self.tokens[None])[0]


def random_vectors(model: Any, tokens: int) -> Tensor:
    """Return vectors with the backbone's own spread: what its word embeddings were drawn with at first."""
    spread = getattr(model.config, FAMILIES[model.config.model_type].spread)
    return torch.randn(tokens, model.base_model.get_input_embeddings().weight.shape[1]) * spread


def words(model: Any, tokens: int, vocabulary: int) -> Tensor:
    """Return the embeddings of words drawn from the whole vocabulary."""
    return embed(model, torch.randperm(vocabulary)[:tokens]).detach().clone()


def labels(model: Any, tokens: int, vocabulary: int) -> Tensor:
    """Return the embeddings of the labels' names, the mean of several pieces, then words (Lester et al., 2021).

    The names are those in the model's configuration, and its folder holds the tokenizer.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.config.name_or_path, use_fast=True, local_files_only=True)
    names = [model.config.id2label[number] for number in sorted(model.config.id2label)][:tokens]
    pieces = [tokenizer(name, add_special_tokens=False)["input_ids"] for name in names]
    vectors = [embed(model, torch.tensor(ids or [tokenizer.unk_token_id])).mean(0, keepdim=True) for ids in pieces]
    return torch.cat([*vectors, words(model, tokens, vocabulary)])[:tokens].detach()


def embed(model: Any, words: Tensor) -> Tensor:
    """Return the backbone's embeddings of words by number."""
    return model.base_model.get_input_embeddings()(words)


def _taken(tokens: Tensor, places: Tensor) -> Tensor:
    """Return the tokens of each row at its places, shape of places (and the tokens' width)."""
    rows = torch.arange(len(tokens), device=tokens.device)[:, None]
    return tokens[rows, places]


def _behind_first(text: Tensor, prompt: Tensor) -> Tensor:
    return torch.cat([text[:, :1], prompt.to(text.dtype), text[:, 1:]], dim=1)
