"""sources -> backbones: train a model from random weights by the objective of its family."""

import hashlib
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from peftstudy import corpora, files, objectives
from peftstudy.checkpoints import Checkpoints
from peftstudy.engine import Engine
from peftstudy.errors import StudyError
from peftstudy.families import FAMILIES
from peftstudy.plans import schedule
from peftstudy.progress import Progress
from peftstudy.specs import Pretraining, expanded, to_json
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
    own, kept_out = _parted(settings, texts)
    tokenizer = _tokenizer(settings, own)
    blocks = _blocks(settings, own, tokenizer, settings.max_tokens)
    validation = _validation_blocks(settings, kept_out, tokenizer) if kept_out else None
    run = PretrainingRun(_model(settings, tokenizer).to(device), tokenizer, settings)
    log.info("%d texts, %d blocks of %d tokens", len(own), *blocks.shape)
    key = files.sha256_json([to_json(settings), hashlib.sha256(blocks.tobytes()).hexdigest()])
    run.fit(blocks, Checkpoints(checkpoint, key, CHECKPOINT_SECONDS))
    about = {
        "objective": FAMILIES[settings.family].objective,
        "steps": settings.steps,
        "tokens": settings.steps * settings.batch_size * settings.block_length,
        "corpus_tokens": int(blocks.size),
        "seconds": run.seconds,
        "loss": run.loss,
        "device": device.type,
        "precision": settings.precision,
    }
    if validation is not None:
        about |= {"validation_tokens": int(validation.size), "validation_loss": run.validation_loss(validation)}
    return Pretrained(run.model, tokenizer, about)


def _parted(settings: Pretraining, texts: list[str]) -> tuple[list[str], list[str]]:
    """Return the texts to train on, and those of the validation part, which the tokenizer does not see either."""
    count = math.ceil(settings.validation * len(texts))
    out = set(np.random.default_rng([settings.seed, 2]).permutation(len(texts))[:count].tolist())
    return [text for i, text in enumerate(texts) if i not in out], [texts[i] for i in sorted(out)]


def _blocks(settings: Pretraining, texts: list[str], tokenizer: Any, max_tokens: int | None) -> np.ndarray:
    marks = corpora.frame(settings.family, tokenizer)
    return corpora.blocks(texts, tokenizer, marks, settings.block_length, max_tokens)


def _validation_blocks(settings: Pretraining, texts: list[str], tokenizer: Any) -> np.ndarray:
    limit = settings.max_tokens and math.ceil(settings.validation * settings.max_tokens)
    try:
        return _blocks(settings, texts, tokenizer, limit)
    except StudyError:
        raise StudyError(
            f"pretrain.validation: found {settings.validation:g}, and of the corpus that is less than one block of "
            f"{settings.block_length} tokens; raise it, or add text."
        ) from None


def _tokenizer(settings: Pretraining, texts: list[str]) -> Any:
    options = dict(settings.tokenizer)
    positions = settings.size("max_position_embeddings") - FAMILIES[settings.family].position_offset
    if "folder" not in options:
        return corpora.train_tokenizer(settings.family, texts, options["vocabulary"], positions)
    from transformers import AutoTokenizer, BertTokenizerFast, GPT2TokenizerFast, RobertaTokenizerFast

    folder = expanded(options["folder"])
    if not folder.is_dir():
        raise StudyError(f"pretrain.tokenizer.folder: {folder} is not a folder.")
    if (folder / "tokenizer_config.json").exists():
        return AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True)
    if settings.family in ("llama", "t5"):
        raise StudyError(
            f"pretrain.tokenizer.folder: {folder} has no tokenizer_config.json, without which {settings.family} knows "
            "no marks; save the tokenizer with save_pretrained()."
        )
    kinds = {"gpt2": GPT2TokenizerFast} | dict.fromkeys((*corpora.BYTE_LEVEL, "bart"), RobertaTokenizerFast)
    plain = kinds.get(settings.family, BertTokenizerFast)
    return plain.from_pretrained(folder, local_files_only=True, model_max_length=positions)


def _model(settings: Pretraining, tokenizer: Any) -> nn.Module:
    import transformers

    shape = FAMILIES[settings.family].configuration(dict(settings.shape))
    ids = _marks(settings.family, tokenizer)
    if settings.family == "modernbert":
        ids |= {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    config = transformers.AutoConfig.for_model(settings.family, vocab_size=len(tokenizer), **ids, **shape)
    torch.manual_seed(settings.seed)
    model = getattr(transformers, FAMILIES[settings.family].language_model).from_config(config)
    # A text is seen once or twice, so there is nothing to overfit (Lan et al., 2020, section 4.8, drop
    # dropout for far longer training). The configuration keeps its rates for adaptation.
    dropout.stop([model])
    return model


def _marks(family: str, tokenizer: Any) -> dict[str, int | None]:
    """Return the numbers of padding, and of the marks that begin and end a text."""
    first, last = ("bos", "eos") if FAMILIES[family].writes else ("cls", "sep")
    marks = {"pad_token_id": tokenizer.pad_token_id}
    marks |= {"bos_token_id": getattr(tokenizer, f"{first}_token_id")}
    marks |= {"eos_token_id": getattr(tokenizer, f"{last}_token_id")}
    # A decoder beside an encoder begins with padding (T5), or with the end of a text (BART).
    begin = {"t5": tokenizer.pad_token_id, "bart": marks["eos_token_id"]}
    return marks | ({"decoder_start_token_id": begin[family]} if family in begin else {})


class PretrainingRun:
    """A model on its way through its steps, with what is needed to stop and go on.

    loss: the mean of the last steps, in nats for each token that is to be predicted.
    seconds: of training, over all processes.
    """

    def __init__(self, model: Any, tokenizer: Any, settings: Pretraining) -> None:
        self.model, self.settings = model, settings
        self.objective = objectives.create(Engine(model, "fast", settings.seed), tokenizer, settings)
        self.device = self.objective.engine.device
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
            if not math.isfinite(self.losses[-1]):
                raise StudyError(
                    f"pretrain: the loss is not finite after {self.step} steps; lower pretrain.learning_rate."
                )
            bar.update(1, f"loss {self.loss:.3f}")
            checkpoints.save(self, self.step)
        bar.close()

    def validation_loss(self, blocks: np.ndarray) -> float:
        """Return the mean loss of blocks that were not trained on, in nats a token, the same draws in every call."""
        self.model.eval()
        starts = range(0, len(blocks), self.settings.batch_size)
        parts = [blocks[start : start + self.settings.batch_size] for start in starts]
        losses = [
            self.objective.loss(part, np.random.default_rng([self.settings.seed, 3, number]))
            for number, part in enumerate(parts)
        ]
        return float(np.average(losses, weights=[len(part) for part in parts]))

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
        self.objective.engine.begin_step(self.step)
        rng = np.random.default_rng([self.settings.seed, 1, self.step])
        self.losses.append(self.objective.add_gradients(_block_batch(blocks, self.settings, self.step), rng))
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
