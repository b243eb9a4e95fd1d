"""The loop: AdamW over one adapted model. It knows no method and no task by name."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peftstudy import devices, energy, seeds
from peftstudy.checkpoints import Checkpoints
from peftstudy.engine import Engine
from peftstudy.methods import Losses, Method, load_trained, trained_state
from peftstudy.plans import Plan, schedule
from peftstudy.provenance import peak_memory_bytes, reset_peak_memory
from peftstudy.scoring import Scored, autocast, evaluate, targets
from peftstudy.specs import Training
from peftstudy.tasks import Task
from peftstudy.tokens import Tokens

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0
PHASES = ("forward", "backward", "optimizer")
"""What a step is split into, in seconds; the rest of an epoch is the order of examples, checkpoints and bookkeeping."""


@dataclass(frozen=True)
class Epoch:
    """What one pass left behind: a row of the history. Losses are means over examples."""

    epoch: int
    step: int
    training_loss: float
    validation_loss: float | None
    validation_score: float | None
    training_seconds: float
    evaluation_seconds: float


@dataclass
class TrainingState:
    """How far a run is: all that a checkpoint must hold beside the optimizer and the generators.

    epoch_*: of the epoch under way; its loss is the sum over its items so far.
    joules: of devices and of processors, by all processes, as far as the run is over or was put back.
    engine: the tricks at work; those of all processes that worked on the run, if they differed.
    peaks: the most memory of the process and of its GPU, in bytes, until it was put down; 0 where that is not known.
    """

    epoch: int = 0
    step: int = 0
    history: list[Epoch] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    chosen_epoch: int = 0
    examples_seen: int = 0
    tokens_seen: int = 0
    epoch_examples: int = 0
    epoch_items: int = 0
    epoch_loss: float = 0.0
    epoch_seconds: float = 0.0
    phase_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    joules: tuple[float, float] = (0.0, 0.0)
    engine: str = ""
    peaks: tuple[int, int] = (0, 0)

    @property
    def is_finite(self) -> bool:
        return not self.history or math.isfinite(self.history[-1].training_loss)


class Run:
    """One model on its way through its budget, with what is needed to stop and go on."""

    def __init__(self, model: nn.Module, method: Method, task: Task, settings: Training, seed: seeds.Seed) -> None:
        self.model, self.method, self.task, self.settings, self.seed = model, method, task, settings, seed
        self.device = next(model.parameters()).device
        devices.shard(model)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.engine = engine_of(model, method, task, settings, seeds.order(seed))
        self.optimizer = torch.optim.AdamW(parameter_groups(model, method, settings), fused=True)
        self.progress = TrainingState(engine=self.engine.name)
        self.meter = energy.Meter(energy.Device(self.device))
        self._total = torch.zeros(())
        self._lapped = 0.0

    @property
    def part_size(self) -> int:
        """How many examples go through the model together at the most, on each device."""
        share = math.ceil(self.settings.batch_size / devices.count())
        return min(self.settings.micro_batch_size, share, self.engine.largest_part or share)

    def fit(
        self,
        tokens: Tokens,
        train: np.ndarray,
        validation: np.ndarray,
        checkpoints: Checkpoints,
        after_epoch: Callable[[nn.Module, int], None] | None = None,
    ) -> TrainingState:
        """Spend the budget; return the history and the trained weights of the chosen epoch.

        train, validation: example numbers, shape (examples,); validation may be empty.
        The weights are those of the best epoch by validation score (the first of equals), or of
        the last one, as the settings say. A loss that is not finite ends the run.
        """
        plan = Plan.of(self.settings, len(train))
        said = time.perf_counter()
        if not checkpoints.restore(self):
            self.method.prepare(self.model, plan.steps, self._losses(tokens, train))
        elif any(self.progress.peaks):
            reset_peaks(self.device)  # what was read of the checkpoint is no memory that the run needs
        while self.progress.epoch < plan.epochs and self.progress.is_finite:
            loss = self._epoch(tokens, train, plan, checkpoints)
            self.meter.tick()
            trained = time.perf_counter()
            scored = evaluate(self.engine, self.task, tokens, validation, self.settings.precision)
            self._record(loss, scored, time.perf_counter() - trained)
            if after_epoch:
                after_epoch(self.model, self.progress.epoch)
            checkpoints.save(self, self.progress.step)
            if time.perf_counter() - said > SECONDS_BETWEEN_LINES:
                said = time.perf_counter()
                log.info("epoch %d of %d: training loss %.3f", self.progress.epoch, plan.epochs, loss)
        self.progress.joules = self._joules()
        return self.progress

    def state(self) -> dict[str, Any]:
        """Return all that decides how the run goes on: weights, moments, generators, progress."""
        return {
            "trained": trained_state(self.model),
            "method": self.method.state(self.model),
            "optimizer": devices.whole_state(self.optimizer),
            "cpu_generator": torch.get_rng_state(),
            "device_generators": devices.generators(self.device),
            "progress": {
                **vars(self.progress),
                "history": [asdict(row) for row in self.progress.history],
                "epoch_loss": float(self._total) if self.progress.epoch_examples else 0.0,
                "joules": self._joules(),
                "peaks": self.peaks(),
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put the run where `state` was taken."""
        load_trained(self.model, state["trained"])
        self.method.restore(self.model, state.get("method", {}))
        self.optimizer.load_state_dict(devices.share_state(state["optimizer"], self.optimizer))
        torch.set_rng_state(state["cpu_generator"].cpu())
        devices.set_generator(self.device, state["device_generators"])
        history = [Epoch(**row) for row in state["progress"]["history"]]
        # Checkpoints from before there was a meter do not say what their run had taken.
        best = {name: tensor.cpu() for name, tensor in state["progress"]["best"].items()}
        before = {"joules": (math.nan, math.nan), "engine": self.engine.name}
        self.progress = TrainingState(**{**before, **state["progress"], "history": history, "best": best})
        log.info("going on from step %d", self.progress.step)
        if self.engine.name not in self.progress.engine.split(", "):
            log.warning(
                "this process computes by %s, not by %s: numbers differ", self.engine.name, self.progress.engine
            )
            self.progress.engine += f", {self.engine.name}"

    def peaks(self) -> tuple[int, int]:
        """Return the most memory of the run's processes and of its GPU, in bytes."""
        return tuple(map(max, self.progress.peaks, peaks(self.device)))

    def _joules(self) -> tuple[float, float]:
        taken = devices.add_up(torch.tensor(self.meter.joules(), dtype=torch.float64))
        return tuple(before + now for before, now in zip(self.progress.joules, taken.tolist(), strict=True))

    def _epoch(self, tokens: Tokens, train: np.ndarray, plan: Plan, checkpoints: Checkpoints) -> float:
        """Do the steps of one epoch that are left; return the mean training loss over its items."""
        self.model.train()
        progress, before = self.progress, time.perf_counter() - self.progress.epoch_seconds
        order = np.random.default_rng([seeds.order(self.seed), progress.epoch]).permutation(train)
        with autocast(self.device, self.settings.precision):
            self.engine.see(tokens, train)
        self._total = torch.full((), progress.epoch_loss, device=self.device)
        for start in range(progress.epoch_examples, len(order), self.settings.batch_size):
            if progress.step == plan.steps:
                break
            batch = order[start : start + self.settings.batch_size]
            self._total += self._step(tokens, batch, plan)
            progress.epoch_examples += len(batch)
            progress.epoch_items += self.task.items(tokens, batch)
            progress.examples_seen += len(batch)
            progress.tokens_seen += int(tokens.sizes[batch].sum())
            progress.epoch_seconds = time.perf_counter() - before
            self.meter.tick()
            checkpoints.save(self, progress.step)
        return float(self._total) / progress.epoch_items

    def _step(self, tokens: Tokens, batch: np.ndarray, plan: Plan) -> Tensor:
        """Do one optimizer step; return the summed loss of the batch's items."""
        rate = schedule(self.progress.step, plan.steps, self.settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.settings.learning_rate
        total = torch.zeros((), device=self.device)
        self.engine.begin_step(self.progress.step)
        self._lapped = time.perf_counter()
        items = self.task.items(tokens, batch)
        share = math.ceil(len(batch) / devices.count())
        parts = list(micro_batches(tokens.sizes, batch, min(self.part_size, share)))
        for part, factor in devices.deal(parts):
            with autocast(self.device, self.settings.precision):
                logits = self.task.logits(self.engine, tokens, part)
            loss = self.task.loss_sum(logits, targets(self.task, tokens, part, self.device))
            penalty = self.method.penalty(self.model)
            asked = loss / items if penalty is None else loss / items + penalty * (len(part) / len(batch))
            self._lap("forward")
            (asked * factor).backward()
            self._lap("backward")
            total += loss.detach() * (factor > 0)
        nn.utils.clip_grad_norm_(self.parameters, self.settings.gradient_norm)
        self.optimizer.step()
        self.progress.step += 1
        self.method.after_step(self.model, self.progress.step)
        self.optimizer.zero_grad()
        self._lap("optimizer")
        return devices.add_up(total)

    def _lap(self, phase: str) -> None:
        """Count the time since the last lap for a phase. Nothing is waited for: on a GPU it is that of queueing."""
        now = time.perf_counter()
        self.progress.phase_seconds[phase] += now - self._lapped
        self._lapped = now

    def _losses(self, tokens: Tokens, train: np.ndarray) -> Losses:
        def losses(examples: int, size: int) -> Iterator[Tensor]:
            """Without dropout: what is drawn here would shift what training draws."""
            self.model.eval()
            chosen = np.random.default_rng([seeds.initialization(self.seed), 2]).permutation(train)[:examples]
            for part in micro_batches(tokens.sizes, chosen, size):
                logits = self.task.logits(self.engine, tokens, part)
                yield self.task.loss(logits, targets(self.task, tokens, part, self.device))

        return losses

    def _record(self, loss: float, scored: Scored | None, evaluation: float) -> None:
        progress, training = self.progress, self.progress.epoch_seconds
        progress.epoch_examples, progress.epoch_items = 0, 0
        progress.epoch_loss, progress.epoch_seconds = 0.0, 0.0
        progress.epoch += 1
        row = Epoch(
            progress.epoch, progress.step, loss,
            scored.loss if scored else None, scored.scores[self.task.metric] if scored else None, training, evaluation,
        )  # fmt: skip
        earlier = [e.validation_score for e in progress.history if e.validation_score is not None]
        if self.settings.select == "last" or not earlier or row.validation_score > max(earlier):
            progress.best = {name: tensor.detach().clone() for name, tensor in trained_state(self.model).items()}
            progress.chosen_epoch = progress.epoch
        progress.history.append(row)


def peaks(device: torch.device) -> tuple[int, int]:
    """Return the most memory of this process and of its GPU, in bytes, since they were reset."""
    return peak_memory_bytes(), torch.cuda.max_memory_allocated() if device.type == "cuda" else 0


def reset_peaks(device: torch.device) -> None:
    reset_peak_memory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def engine_of(model: nn.Module, method: Method, task: Task, settings: Training, seed: int) -> Engine:
    """Return the engine of an adapted model for a task."""
    return Engine(
        model,
        settings.engine,
        seed,
        extra_tokens=method.extra_tokens,
        plain_attention=method.plain_attention,
        dropout_in_frozen_body=settings.dropout_in_frozen_body,
        reads_first=task.reads_first,
        activation_checkpointing=settings.activation_checkpointing,
    )


def micro_batches(sizes: np.ndarray, batch: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut a batch, sorted by the examples' sizes in tokens, into parts of `size` examples.

    The parts' gradients add up to that of the batch's mean loss, so the update is the same; short
    examples are no longer padded to the longest of the batch.
    """
    ordered = batch[np.argsort(sizes[batch], kind="stable")]
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def parameter_groups(model: nn.Module, method: Method, settings: Training) -> list[dict[str, Any]]:
    """Return what AdamW is given: weight decay for matrices only.

    Biases, norms and what the method exempts go without (Devlin et al., 2019).
    """
    decayed, free = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (free if parameter.ndim < 2 or method.no_decay(name) else decayed).append(parameter)
    return [
        {"params": decayed, "lr": 0.0, "weight_decay": settings.weight_decay},
        {"params": free, "lr": 0.0, "weight_decay": 0.0},
    ]
