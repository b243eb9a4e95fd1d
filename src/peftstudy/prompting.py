"""An encoder that reads trained vectors beside each text."""

from typing import Any

import torch
from torch import Tensor, nn

from peftstudy.packing import first_position
from peftstudy.shapes import Shape


class Prompted(nn.Module):
    """Put `tokens` trained vectors behind the first token of every text.

    They join the word embeddings, so that the backbone adds positions and token types to them and
    normalises them with the text. Attention knows order by position embeddings alone, hence only
    the first place, which the head reads, matters to where they stand.
    """

    def __init__(self, model: nn.Module, tokens: int, shape: Shape):
        super().__init__()
        self.model = model
        chosen = torch.randperm(shape.vocabulary)[:tokens]
        self.prompt = nn.Parameter(self._embed(chosen).detach().clone())
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
        # As transformers counts for RoBERTa, padding not counted; where BERT's padding stands is never attended to.
        places = (mask.cumsum(1) * mask + self.offset - 1).clamp(min=0)
        rows = len(input_ids)
        return self.model(
            inputs_embeds=_behind_first(self._embed(input_ids), self.prompt.expand(rows, -1, -1)),
            attention_mask=_behind_first(mask, mask.new_ones(rows, len(self.prompt))),
            token_type_ids=_behind_first(types, types.new_zeros(rows, len(self.prompt))),
            position_ids=_behind_first(places, self.positions.expand(rows, -1)),
        )

    def _packed(self, input_ids: Tensor, token_type_ids: Tensor, position_ids: Tensor) -> Any:
        copies = torch.ones_like(input_ids[0])
        copies[position_ids[0] == self.offset] += len(self.prompt)  # each text's first token makes room behind it
        token = torch.arange(len(copies), device=copies.device).repeat_interleave(copies)
        within = torch.arange(len(token), device=copies.device) - (copies.cumsum(0) - copies)[token]
        place = torch.where(within > 0, len(copies) + within - 1, token)  # behind all the text stands one prompt
        return self.model(
            inputs_embeds=torch.cat([self._embed(input_ids)[0], self.prompt])[place][None],
            token_type_ids=torch.cat([token_type_ids[0], torch.zeros_like(self.positions)])[place][None],
            position_ids=torch.cat([position_ids[0], self.positions])[place][None],
        )

    def _embed(self, words: Tensor) -> Tensor:
        return self.model.base_model.get_input_embeddings()(words)


def _behind_first(text: Tensor, prompt: Tensor) -> Tensor:
    return torch.cat([text[:, :1], prompt.to(text.dtype), text[:, 1:]], dim=1)
