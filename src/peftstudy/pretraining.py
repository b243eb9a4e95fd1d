"""sources -> backbones: train a BERT- or RoBERTa-shaped model by masked-language modelling."""

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from peftstudy import corpora, files
from peftstudy.engine import Engine
from peftstudy.errors import StudyError
from peftstudy.progress import Progress
from peftstudy.specs import Pretraining
from peftstudy.training import autocast, schedule

log = logging.getLogger(__name__)

CLASSES = {"bert": ("BertConfig", "BertForMaskedLM"), "roberta": ("RobertaConfig", "RobertaForMaskedLM")}
REPORT_EVERY = 100  # steps over which the reported loss is a mean
CHECKPOINT_SECONDS = 60
BETAS, WEIGHT_DECAY, WARMUP, GRADIENT_NORM = (0.9, 0.98), 0.01, 0.06, 1.0  # Liu et al. (2019), table 9


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
    model = _model(settings, tokenizer).to(device)
    log.info("%d texts, %d blocks of %d tokens", len(texts), *blocks.shape)
    seconds, loss = _train(model, blocks, tokenizer, settings, checkpoint)
    about = {
        "steps": settings.steps,
        "tokens": settings.steps * settings.batch_size * settings.block_length,
        "corpus_tokens": int(blocks.size),
        "seconds": seconds,
        "loss": loss,
        "device": device.type,
        "precision": settings.precision,
    }
    return Pretrained(model, tokenizer, about)


def _tokenizer(settings: Pretraining, texts: list[str]) -> Any:
    options = dict(settings.tokenizer)
    positions = dict(settings.shape).get("max_position_embeddings", 512) - (2 if settings.family == "roberta" else 0)
    if "folder" not in options:
        return corpora.train_tokenizer(settings.family, texts, options["vocabulary"], positions)
    from transformers import AutoTokenizer, BertTokenizerFast, RobertaTokenizerFast

    folder = Path(options["folder"]).expanduser()
    if not folder.is_dir():
        raise StudyError(f"pretrain.tokenizer.folder: {folder} is not a folder.")
    if (folder / "tokenizer_config.json").exists():
        return AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True)
    plain = {"bert": BertTokenizerFast, "roberta": RobertaTokenizerFast}[settings.family]
    return plain.from_pretrained(folder, local_files_only=True, model_max_length=positions)


def _model(settings: Pretraining, tokenizer: Any) -> nn.Module:
    import transformers

    config_class, model_class = CLASSES[settings.family]
    shape = dict(settings.shape)
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    config = getattr(transformers, config_class)(vocab_size=len(tokenizer), **ids, **shape)
    torch.manual_seed(settings.seed)
    model = getattr(transformers, model_class)(config)
    # No dropout: a text is seen once or twice, so there is nothing to overfit (Lan et al., 2020,
    # section 4.8, drop it for far longer training). The configuration keeps its rates for adaptation.
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    return model


def _train(
    model: Any, blocks: np.ndarray, tokenizer: Any, settings: Pretraining, checkpoint: Path | None
) -> tuple[float, float]:
    """Return the seconds spent and the mean loss of the last steps (nats a hidden token)."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    free = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": free, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=BETAS, eps=1e-6, fused=True)
    engine = Engine(model, "fast", settings.seed)
    key = files.sha256_json([str(settings), files.sha256_json(blocks[:: max(1, len(blocks) // 64)].tolist())])
    done, losses, spent = _restore(checkpoint, key, model, optimizer)
    begin = saved = time.monotonic()
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad", "mask")}
    bar = Progress(settings.steps, "steps of pre-training", done=done)
    model.train()
    for step in range(done, settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * schedule(step, settings.steps, WARMUP)
        losses.append(_step(engine, _block_batch(blocks, settings, step), special, settings, step))
        nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        bar.update(1, f"loss {np.mean(losses[-REPORT_EVERY:]):.3f}")
        if checkpoint and time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            _save(checkpoint, key, model, optimizer, step + 1, losses, spent + saved - begin)
    bar.close()
    loss = float(np.mean(losses[-REPORT_EVERY:]))
    if not math.isfinite(loss):
        raise StudyError(
            f"pretrain: the loss is not finite after {settings.steps} steps; lower pretrain.learning_rate."
        )
    return spent + time.monotonic() - begin, loss


def _block_batch(blocks: np.ndarray, settings: Pretraining, step: int) -> np.ndarray:
    """Return the blocks of one step: a new order each pass over the corpus, known from the step alone."""
    first = step * settings.batch_size
    places = np.arange(first, first + settings.batch_size)
    orders = {
        i: np.random.default_rng([settings.seed, int(i)]).permutation(len(blocks)) for i in set(places // len(blocks))
    }
    return blocks[[orders[place // len(blocks)][place % len(blocks)] for place in places]]


def _step(engine: Engine, ids: np.ndarray, special: dict[str, int], settings: Pretraining, step: int) -> float:
    """Add one step's gradients; vocabulary and last layer are computed at hidden tokens alone, where the loss is."""
    rng, model = np.random.default_rng([settings.seed, 1, step]), engine.model
    hidden, chosen = corpora.mask_tokens(ids, rng, special, model.config.vocab_size)
    targets = torch.from_numpy(ids[chosen]).to(engine.device, torch.long)
    head = model.cls if hasattr(model, "cls") else model.lm_head
    with autocast(engine.device, settings.precision):
        logits = head(engine.states(hidden.astype(np.int64), chosen))
    loss = F.cross_entropy(logits.float(), targets)
    loss.backward()
    return float(loss.detach())


def _save(path: Path, key: str, model: Any, optimizer: Any, step: int, losses: list[float], seconds: float) -> None:
    state = {"key": key, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
             "losses": losses[-REPORT_EVERY:], "seconds": seconds, "generator": torch.get_rng_state()}  # fmt: skip
    with files.whole(path) as temporary:
        torch.save(state, temporary)


def _restore(path: Path | None, key: str, model: Any, optimizer: Any) -> tuple[int, list[float], float]:
    """Return the step, the last losses and the seconds of a checkpoint of the same training, or a fresh start."""
    if path is None or not path.exists():
        return 0, [], 0.0
    state = torch.load(path, map_location=next(model.parameters()).device, weights_only=True)
    if state["key"] != key:
        return 0, [], 0.0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["generator"].cpu())
    log.info("going on from step %d", state["step"])
    return state["step"], state["losses"], state["seconds"]
