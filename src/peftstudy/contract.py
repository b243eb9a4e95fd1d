"""What every method must keep to, on a tiny body of each family: for the tests, and for methods of your own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from peftstudy import backbones, exercises, tasks, writing
from peftstudy.bodies import BACKBONES, TASK, folder, load
from peftstudy.engine import Engine
from peftstudy.errors import StudyError
from peftstudy.methods import Adapted, Method, adapt, load_trained, trained_state
from peftstudy.publication import formats
from peftstudy.publication.trained import BACKBONE, Trained
from peftstudy.shapes import Shape
from peftstudy.specs import Training
from peftstudy.tasks import Task
from peftstudy.tokens import Tokens
from peftstudy.training import parameter_groups
from peftstudy.tricks import dropout

STEPS, LEAST = 80, 12
"""Steps in which one batch is to be fitted, and those after which it may be enough."""
ROUNDING = 5e-6  # of float32, through all layers: a share of the largest output


@dataclass(frozen=True)
class Fitted:
    """A model after it was fitted to one batch, without dropout: its parameters before, and the two losses."""

    adapted: Adapted
    before: Mapping[str, Tensor]
    losses: tuple[float, float]


@dataclass(frozen=True)
class Case:
    """A method on a body, under the head of a task."""

    method: Method
    backbone: str
    of: str = TASK.name

    @cached_property
    def task(self) -> Task:
        return tasks.create(self.of)

    @property
    def shape(self) -> Shape:
        return _shape(self.backbone, self.of)

    @property
    def impossible(self) -> str | None:
        """Why the task, or the method, declares that this cannot be, if one does."""
        without = backbones.impossible(self.task, self.shape)
        return without or self.method.cannot(self.of) or self.method.skip(self.shape)

    def loaded(self, seed: int = 1) -> backbones.Loaded:
        return load(self.backbone, seed, self.method.attention, self.task, self.data.about["labels"])

    def adapted(self, seed: int = 1) -> Adapted:
        loaded = self.loaded(seed)
        torch.rand(int(torch.randint(1, 99, ())))  # what was drawn before must not matter
        return adapt(self.method, loaded, self.shape, seed)

    @cached_property
    def fresh(self) -> backbones.Loaded:
        """What `loaded` gives, to look at and not to change."""
        return self.loaded()

    @cached_property
    def data(self) -> Tokens:
        return exercises.tokens(self.of, self.backbone)

    @cached_property
    def batch(self) -> np.ndarray:
        """The numbers of all examples, the shortest first."""
        return np.argsort(self.data.sizes, kind="stable")

    def engine(self, model: Any, tricks: str = "plain") -> Engine:
        method = self.method
        return Engine(model, tricks, 0, method.extra_tokens, method.plain_attention, reads_first=self.task.reads_first)

    def loss(self, engine: Engine) -> Tensor:
        targets = torch.from_numpy(self.task.targets(self.data, self.batch))
        return self.task.loss(self.task.logits(engine, self.data, self.batch), targets)

    @torch.no_grad()
    def logits(self, model: Any, examples: np.ndarray | None = None) -> Tensor:
        """Return what an adapted model says of some examples, or of all, by the plain loop."""
        engine = self.engine(model.eval())
        return self.task.logits(engine, self.data, self.batch if examples is None else examples)

    @cached_property
    def fitted(self) -> Fitted:
        """The model once its loss has fallen enough, or after eighty steps; at a lower rate if this is too high."""
        found = self._fit(min(0.01, max(0.003, self.method.learning_rates[-1])))
        return found if found.losses[1] < self.share * found.losses[0] else self._fit(0.001)

    @property
    def share(self) -> float:
        """Of the loss on one batch, what may be left of it after eighty steps."""
        return 11 / 12 if self.task.writes else 0.5 if self.of == TASK.name else 0.75

    def _fit(self, rate: float) -> Fitted:
        result, method = self.adapted(), self.method
        before = {key: value.detach().clone() for key, value in result.model.named_parameters()}
        dropout.stop([result.model])
        engine = self.engine(result.model.train())
        optimizer = torch.optim.AdamW(parameter_groups(result.model, method, Training(weight_decay=0.01)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        method.prepare(result.model, STEPS, lambda *_: iter([self.loss(engine)]))
        losses: list[float] = []
        for step in range(1, STEPS + 1):
            loss = self.loss(engine)
            losses.append(float(loss.detach()))
            if step > LEAST and losses[-1] < self.share * losses[0]:
                break
            (loss + (method.penalty(result.model) or 0.0)).backward()
            optimizer.step()
            method.after_step(result.model, step)
            optimizer.zero_grad()
        return Fitted(result, before, (losses[0], losses[-1]))


@cache
def _shape(backbone: str, of: str) -> Shape:
    return backbones.shape_for(folder(backbone), tasks.create(of))


def starts_from_the_backbone(case: Case) -> None:
    """The untrained model's outputs are the backbone's, or `start` says why not."""
    task, data = case.task, case.data
    with torch.no_grad():
        plain = Engine(case.fresh.model, "plain", 0, reads_first=task.reads_first)
        expected = task.logits(plain, data, case.batch)
    found = case.logits(case.adapted().model) - expected
    difference = float(found.abs().max()) / max(1.0, float(expected.abs().max()))
    if case.method.start:
        assert difference > ROUNDING, "outputs are the backbone's at the start: the documented reason no longer holds"
    else:
        assert difference < ROUNDING, f"outputs differ from the backbone's by {difference:.1e}, and `start` is empty"


def trains_method_and_head_and_nothing_else(case: Case) -> None:
    """Frozen parameters stay bit-identical; the head and the method's parameters move."""
    result, before = case.fitted.adapted, case.fitted.before
    named = dict(result.model.named_parameters())
    free = {key for key, value in named.items() if value.requires_grad}
    assert free == result.method_names | result.head_names, "what requires gradients is not method and head"
    assert not result.method_names & result.head_names, "parameters are the method's and the head's at once"
    moved = {key for key, value in named.items() if not torch.equal(value, before[key])}
    assert moved <= free, f"a frozen parameter moved: {min(moved - free)}"
    assert {key for key in result.head_names if key.endswith("weight")} <= moved, "the head stood still"
    assert bool(moved & result.method_names) == bool(result.method_parameters), "the method's parameters stood still"


def fits_one_batch(case: Case) -> None:
    """The loss on one batch halves within eighty steps.

    A head alone learns less of choices, words and spans than of classes: there it falls by a quarter; where there is
    none, as in tasks that write, by a twelfth.
    """
    before, after = case.fitted.losses
    assert after < case.share * before, f"the loss on one batch went from {before:.3f} to {after:.3f} only"


def counts_what_it_trains(case: Case) -> None:
    """The formula's count is that of the trained parameters, and what is stored is those and the head."""
    # That the method trains as many as its formula says is what `adapt` makes sure of.
    result, loaded, expected = case.fitted.adapted, case.fresh, case.method.count(case.shape)
    head = sum(loaded.model.get_parameter(key).numel() for key in loaded.head)
    assert result.head_parameters == head, f"{result.head_parameters} of the head's {head} numbers are trained"
    stored = {key: tensor for key, tensor in trained_state(result.model).items() if not key.endswith("chosen")}
    size = sum(tensor.numel() for tensor in stored.values())
    assert size == expected + result.head_parameters, f"{size} numbers are stored"


def saves_and_loads_bit_for_bit(case: Case) -> None:
    """The stored tensors, put into a model that was adapted afresh, give the same one, frozen tensors and all."""
    from safetensors.torch import load, save

    result, again = case.fitted.adapted, case.adapted().model
    trained = case.logits(result.model)
    assert not torch.equal(case.logits(again), trained), "training changed no prediction"
    load_trained(again, load(save(trained_state(result.model))))
    known = tensors(again)
    for name, tensor in tensors(result.model).items():
        assert torch.equal(tensor, known[name]), f"{name} is another one after saving and loading"
    assert torch.equal(case.logits(again), trained), "predictions differ after saving and loading"


def tensors(model: Any) -> dict[str, Tensor]:
    """Return all that a model computes with, by name."""
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def comes_back_as_published(case: Case) -> None:
    """The folder in which others get it, loaded by the lines of its card, gives the same predictions."""
    result, own = case.fitted.adapted, folder(case.backbone)
    labels = tuple(case.data.about["labels"])
    trained = Trained(case.method, case.task, own, case.shape, 1, labels, trained_state(result.model))
    form = formats.of(trained)
    with tempfile.TemporaryDirectory() as place:
        form.write(trained, Path(place))
        (Path(place) / BACKBONE).symlink_to(own)
        model = formats.run(form.lines(trained), Path(place))
    difference = float((case.logits(model) - case.logits(result.model)).abs().max())
    assert difference < 1e-5, f"published for {form.library}, its predictions differ by {difference:.1e}"


def the_seed_fixes_the_weights(case: Case) -> None:
    """The same seed gives the same values, whatever was drawn before; the head's do not depend on the method."""
    results = [case.adapted(seed) for seed in (1, 1, 2)]
    first, same, other = (trained_state(result.model) for result in results)
    assert first.keys() == same.keys(), "the same seed gives other parameters"
    assert all(torch.equal(first[key], same[key]) for key in first), "the same seed gives other values"
    if case.task.writes:
        return  # with what the backbone wrote with before: no head is fresh
    head = {key for key in results[0].head_names if key.endswith("weight") and "norm" not in key}
    assert head and all(not torch.equal(first[key], other[key]) for key in head), "the head does not follow the seed"
    fresh = case.fresh
    plain = {key: fresh.model.get_parameter(key) for key in fresh.head}
    found = {key: first[name] for key in plain for name in results[0].head_names if name.endswith(key)}
    found |= {key: first[name] for key in plain for name in results[0].head_names if f".{key}" in f".{name}"}
    equal = [torch.equal(plain[key], found[key]) for key in plain if key in found]
    assert equal and all(equal), "the head's start depends on the method"


def padding_changes_nothing(case: Case) -> None:
    """An example's outputs are the same alone and in a padded batch."""
    model = case.fitted.adapted.model
    alone = torch.cat([case.logits(model, case.batch[place : place + 1]) for place in range(len(case.batch))])
    together = case.logits(model)
    difference = float((alone - together).abs().max())
    assert torch.allclose(alone, together, rtol=1e-4, atol=1e-5), f"padding changes them by {difference:.1e}"


def has_the_gradients_of_the_plain_loop(case: Case) -> None:
    """The engine's loss and gradients are those of padded batches through the model as it is."""
    found = []
    for tricks in ("plain", "fast"):
        result = case.adapted()
        dropout.stop([result.model])
        generator = torch.Generator().manual_seed(3)
        for parameter in result.model.parameters():
            # Freshly made parts are near zero, and so would their neighbours' gradients be.
            if parameter.requires_grad:
                parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
        loss = case.loss(case.engine(result.model.train(), tricks))
        loss.backward()
        found.append((float(loss.detach()), {n: p.grad for n, p in result.model.named_parameters() if p.requires_grad}))
    (plain, expected), (fast, gradients) = found
    assert abs(plain - fast) < 1e-5 * max(1.0, abs(plain)), f"the engine's loss is {fast}, the plain loop's {plain}"
    largest = max(float(gradient.abs().max()) for gradient in expected.values() if gradient is not None)
    for name, gradient in expected.items():
        own = gradients[name]
        if gradient is None or own is None:
            assert gradient is None and own is None, f"{name} has a gradient in one of engine and plain loop"
        else:
            same = torch.allclose(own, gradient, rtol=1e-3, atol=5e-6 * max(1.0, largest))
            assert same, f"the engine's gradient of {name} is not the plain loop's"


@torch.no_grad()
def writes_what_is_most_probable(case: Case) -> None:
    """By the logits of whole texts: whatever caches, prompts and padding in front do, they must not change it."""
    model, data, longest = case.fitted.adapted.model.eval(), case.data, exercises.WRITTEN
    found = writing.write(model, data, case.batch, longest, beams=1, extra_tokens=case.method.extra_tokens)
    own = [np.append(ids, data.about["end_id"])[:longest] for ids in found]
    sizes = np.zeros(len(data.lengths), int)
    sizes[case.batch] = [len(ids) for ids in own]
    placed = [own[place] for place in np.argsort(case.batch)]
    arrays = {"target_ids": np.concatenate(placed), "targets": np.append(0, np.cumsum(sizes))}
    logits = case.task.logits(case.engine(model), replace(data, arrays=arrays), case.batch)
    chosen = logits[torch.arange(len(logits)), torch.from_numpy(np.concatenate(own))]
    assert float((logits.amax(1) - chosen).max()) < 1e-3, "a token is written that is not the most probable one"


CHECKS: tuple[Callable[[Case], None], ...] = (
    starts_from_the_backbone,
    trains_method_and_head_and_nothing_else,
    fits_one_batch,
    counts_what_it_trains,
    saves_and_loads_bit_for_bit,
    comes_back_as_published,
    the_seed_fixes_the_weights,
    padding_changes_nothing,
    has_the_gradients_of_the_plain_loop,
)
"""The checks of every case."""


def checks(of: str) -> tuple[Callable[[Case], None], ...]:
    """Return the checks of a task's cases."""
    return (*CHECKS, writes_what_is_most_probable) if tasks.create(of).writes else CHECKS


def hold(case: Case) -> int:
    """Return how many checks hold, all of them; raises StudyError for the first that fails."""
    if not __debug__:
        raise StudyError("the contract's checks are assertions, which python -O leaves out; run it without.")
    for holds in checks(case.of):
        try:
            holds(case)
        except AssertionError as error:
            name, said = holds.__name__.replace("_", " "), (str(error).splitlines() or ["it does not"])[0]
            raise StudyError(f"method {case.method.name} on {case.backbone}, {case.of}: {name}: {said}.") from None
    return len(checks(case.of))


def task_for(method: Method) -> str:
    """Return the task that a method is checked on: classification, or the first that it can do."""
    able = [name for name in (TASK.name, *sorted(exercises.COLUMNS)) if not method.cannot(name)]
    if not able:
        raise StudyError(f"method {method.name}: it can do none of the tasks: {', '.join(sorted(exercises.COLUMNS))}.")
    return able[0]


def check(method: Method) -> Iterator[str]:
    """Yield a line for each body: that the method keeps to the contract there, or why it is impossible.

    Raises StudyError for the first check that fails.
    """
    of = task_for(method)
    for backbone in BACKBONES:
        case = Case(method, backbone, of)
        if case.impossible:
            yield f"{backbone}: impossible: {case.impossible}"
        else:
            yield f"{backbone}: {of}: {hold(case)} checks hold, {method.count(case.shape)} parameters trained"
