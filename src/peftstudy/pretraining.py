"""sources -> backbones: train an encoder from random weights by masked-language modelling."""

import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from peftstudy import corpora, files
from peftstudy.checkpoints import Checkpoints
from peftstudy.engine import Engine
from peftstudy.errors import StudyError
from peftstudy.families import FAMILIES
from peftstudy.progress import Progress
from peftstudy.specs import Pretraining
from peftstudy.training import autocast, schedule
from peftstudy.tricks import dropout

log = logging.getLogger(__name__)

REPORT_EVERY = 100  # steps over which the reported loss is a mean
CHECKPOINT_SECONDS = 60
BETAS, WEIGHT_DECAY, WARMUP = (0.9, 0.98), 0.01, 0.06  # Liu et al. (2019), table 9
GRADIENT_NORM = 1.0  # theirs is not cut; high rates on small models want it


@dataclass(frozen=True)
class Pretrained:
    """A pre-trained model with its tokenizer, and what its manifest says of the training."""

    model: Any
    tokenizer: Any
    about: dict[str, Any]


def pretrain(settings: Pretraining, texts: list[str], checkpoint: Path | None, device: torch.device) -> Pretrained:
    """Train tokenizer and model on the texts; the same settings and texts give the same weights on one machine.

    checkpoint: where the state is kept now and then, and read again after an interruption.
    """
    tokenizer = _tokenizer(settings, texts)
    blocks = corpora.blocks(texts, tokenizer, settings.block_length, settings.max_tokens)
    run = MaskedRun(_model(settings, tokenizer).to(device), tokenizer, settings)
    log.info("%d texts, %d blocks of %d tokens", len(texts), *blocks.shape)
    key = files.sha256_json([str(settings), files.sha256_json(blocks[:: max(1, len(blocks) // 64)].tolist())])
    run.fit(blocks, Checkpoints(checkpoint, key, CHECKPOINT_SECONDS))
    about = {
        "steps": settings.steps,
        "tokens": settings.steps * settings.batch_size * settings.block_length,
        "corpus_tokens": int(blocks.size),
        "seconds": run.seconds,
        "loss": run.loss,
        "device": device.type,
        "precision": settings.precision,
    }
    return Pretrained(run.model, tokenizer, about)


def _tokenizer(settings: Pretraining, texts: list[str]) -> Any:
    options = dict(settings.tokenizer)
    positions = dict(settings.shape).get("max_position_embeddings", 512) - FAMILIES[settings.family].position_offset
    if "folder" not in options:
        return corpora.train_tokenizer(settings.family, texts, options["vocabulary"], positions)
    from transformers import AutoTokenizer, BertTokenizerFast, RobertaTokenizerFast

    folder = Path(options["folder"]).expanduser()
    if not folder.is_dir():
        raise StudyError(f"pretrain.tokenizer.folder: {folder} is not a folder.")
    if (folder / "tokenizer_config.json").exists():
        return AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True)
    plain = RobertaTokenizerFast if settings.family in corpora.BYTE_LEVEL else BertTokenizerFast
    return plain.from_pretrained(folder, local_files_only=True, model_max_length=positions)


def _model(settings: Pretraining, tokenizer: Any) -> nn.Module:
    import transformers

    shape = FAMILIES[settings.family].configuration(dict(settings.shape))
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    if settings.family == "modernbert":
        ids |= {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    config = transformers.AutoConfig.for_model(settings.family, vocab_size=len(tokenizer), **ids, **shape)
    torch.manual_seed(settings.seed)
    model = transformers.AutoModelForMaskedLM.from_config(config)
    # A text is seen once or twice, so there is nothing to overfit (Lan et al., 2020, section 4.8, drop
    # dropout for far longer training). The configuration keeps its rates for adaptation.
    dropout.stop([model])
    return model


class MaskedRun:
    """A model on its way through its steps, with what is needed to stop and go on.

    loss: the mean of the last steps, in nats a hidden token. seconds: of training, over all processes.
    """

    def __init__(self, model: Any, tokenizer: Any, settings: Pretraining) -> None:
        self.model, self.settings = model, settings
        self.special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad", "mask")}
        self.engine = Engine(model, "fast", settings.seed)
        self.device = self.engine.device
        decayed = [p for p in model.parameters() if p.ndim > 1]
        free = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": free, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=BETAS, eps=1e-6, fused=True)
        self.step, self.seconds, self.losses = 0, 0.0, list[float]()

    @property
    def loss(self) -> float:
        return float(np.mean(self.losses[-REPORT_EVERY:]))

    def fit(self, blocks: np.ndarray, checkpoints: Checkpoints) -> None:
        """Do the steps that are left, on blocks of token ids, shape (blocks, length)."""
        checkpoints.restore(self)
        bar = Progress(self.settings.steps, "steps of pre-training", done=self.step)
        self.model.train()
        while self.step < self.settings.steps:
            begin = time.monotonic()
            self._step(blocks)
            self.seconds += time.monotonic() - begin
            bar.update(1, f"loss {self.loss:.3f}")
            checkpoints.save(self, self.step)
        bar.close()
        if not math.isfinite(self.loss):
            raise StudyError(
                f"pretrain: the loss is not finite after {self.settings.steps} steps; lower pretrain.learning_rate."
            )

    def state(self) -> dict[str, Any]:
        """Return all that decides how the training goes on."""
        return {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step,
            "losses": self.losses[-REPORT_EVERY:], "seconds": self.seconds,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Put the training where `state` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.losses, self.seconds = state["step"], state["losses"], state["seconds"]
        log.info("going on from step %d", self.step)

    def _step(self, blocks: np.ndarray) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * schedule(self.step, self.settings.steps, WARMUP)
        self.losses.append(add_gradients(self, _block_batch(blocks, self.settings, self.step)))
        nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1


def _block_batch(blocks: np.ndarray, settings: Pretraining, step: int) -> np.ndarray:
    """Return the blocks of one step: a new order each pass over the corpus, known from the step alone."""
    first = step * settings.batch_size
    places = np.arange(first, first + settings.batch_size)
    orders = {
        i: np.random.default_rng([settings.seed, int(i)]).permutation(len(blocks)) for i in set(places // len(blocks))
    }
    return blocks[[orders[place // len(blocks)][place % len(blocks)] for place in places]]


def add_gradients(run: MaskedRun, ids: np.ndarray) -> float:
    """Add the gradients of a batch of blocks; return its loss at the hidden tokens.

    Vocabulary and last layer are computed where there is a loss alone: at the hidden tokens, and at the
    first token of each block where that has its words to predict.
    """
    rng, model, weight = np.random.default_rng([run.settings.seed, 1, run.step]), run.model, run.settings.bag_of_words
    hidden, chosen = corpora.mask_tokens(ids, rng, run.special, model.config.vocab_size)
    read = chosen.copy()
    read[:, 0] = weight > 0
    with autocast(run.device, run.settings.precision):
        logits = vocabulary_logits(model, run.engine.states(hidden.astype(np.int64), read)).float()
    of_hidden = torch.from_numpy(chosen[read]).to(run.device)
    targets = torch.from_numpy(ids[chosen]).to(run.device, torch.long)
    loss = F.cross_entropy(logits[of_hidden], targets, reduction="sum") / max(1, len(targets))
    bags = bag_of_words_loss(logits[~of_hidden], ids, run.special.values()) if weight else 0.0
    (loss + weight * bags).backward()
    return float(loss.detach())


def bag_of_words_loss(logits: torch.Tensor, ids: np.ndarray, special: Iterable[int]) -> torch.Tensor:
    """Return the mean over blocks of the loss of naming a block's distinct tokens, in any order, in nats a token.

    logits: one row a block, shape (blocks, vocabulary). ids: shape (blocks, length); special ones are not asked for.
    Source: Ma et al. (2024), bag-of-word prediction.
    """
    named = torch.from_numpy(np.where(np.isin(ids, list(special)), -1, ids)).to(logits.device, torch.long)
    bag = torch.zeros(len(logits), logits.shape[1] + 1, device=logits.device).scatter_(1, named + 1, 1.0)[:, 1:]
    return -((bag * logits.log_softmax(-1)).sum(1) / bag.sum(1).clamp(min=1)).mean()


def vocabulary_logits(model: Any, states: torch.Tensor) -> torch.Tensor:
    """Return what a masked language model makes of its body's states, shape (tokens, width) -> (tokens, vocabulary)."""
    match model.config.model_type:
        case "electra":
            return model.generator_lm_head(model.generator_predictions(states))
        case "distilbert":
            return model.vocab_projector(model.vocab_layer_norm(model.activation(model.vocab_transform(states))))
        case "modernbert":
            return model.decoder(model.head(states))
        case "roberta":
            return model.lm_head(states)
    return model.cls(states)
