"""Padded batches of random words for the tiny bodies, and what a model says of them."""

import torch

from peftstudy import bodies
from peftstudy.families import WRITERS


def batch(backbone, lengths=(9, 5, 12, 7, 3, 12)):
    """Return inputs, the second halves of their texts being second texts for BERT, and labels."""
    rng = torch.Generator().manual_seed(7)
    padding = bodies.tokenizer(backbone).pad_token_id
    ids = torch.full((len(lengths), max(lengths)), padding)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(5, bodies.WORDS, (length,), generator=rng)
        mask[row, :length] = 1
        types[row, length // 2 : length] = 1
    ids[:, 0] = 2
    if bodies.BACKBONES[backbone][0] in WRITERS:
        ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = 3  # T5 and BART look for the end mark
    inputs = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in bodies.tokenizer(backbone).model_input_names:
        inputs["token_type_ids"] = types
    return inputs, torch.arange(len(lengths)) % len(bodies.NAMES)


@torch.no_grad()
def logits(model, inputs):
    return model.eval()(**inputs).logits
