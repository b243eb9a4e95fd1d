"""What every method must keep to, on a tiny body of each family: for the tests, and for methods of one's own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from peftstudy.bodies import BACKBONES, TASK, batch, folder, load
from peftstudy.engine import Engine
from peftstudy.errors import StudyError
from peftstudy.methods import Adapted, Method, adapt, load_trained, trained_state
from peftstudy.publication import formats
from peftstudy.shapes import Shape, read_shape
from peftstudy.tokens import Tokens
from peftstudy.tricks import dropout

STEPS = 60
ROUNDING = 5e-6  # of float32, through all layers: a share of the largest output


@torch.no_grad()
def logits(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    return model.eval()(**inputs).logits


@dataclass(frozen=True)
class Fitted:
    """A model after it was fitted to one batch, without dropout: its parameters before, and the two losses."""

    adapted: Adapted
    before: Mapping[str, Tensor]
    losses: tuple[float, float]


@dataclass(frozen=True)
class Case:
    """A method on a body."""

    method: Method
    backbone: str

    @property
    def shape(self) -> Shape:
        return read_shape(folder(self.backbone))

    @property
    def impossible(self) -> str | None:
        """Why the method declares that it cannot adapt the body, if it does."""
        return self.method.skip(self.shape)

    def adapted(self, seed: int = 1) -> Adapted:
        loaded = load(self.backbone, seed, self.method.attention)
        torch.rand(int(torch.randint(1, 99, ())))  # what was drawn before must not matter
        return adapt(self.method, loaded, self.shape, seed)

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        return batch(self.backbone)[0]

    @cached_property
    def fitted(self) -> Fitted:
        result, method = self.adapted(), self.method
        before = {key: value.detach().clone() for key, value in result.model.named_parameters()}
        rate = min(0.01, max(0.003, method.learning_rates[-1]))
        groups: dict[bool, list[Any]] = {True: [], False: []}
        for name, parameter in result.model.named_parameters():
            if parameter.requires_grad:
                groups[parameter.ndim < 2 or method.no_decay(name)].append(parameter)
        decays = [{"params": group, "weight_decay": 0.0 if free else 0.01} for free, group in groups.items()]
        optimizer = torch.optim.AdamW(decays, lr=rate)
        inputs, labels = batch(self.backbone)
        first = TASK.loss(logits(result.model, inputs), labels).item()
        method.prepare(result.model, STEPS, lambda *_: iter([TASK.loss(result.model(**inputs).logits, labels)]))
        for step in range(1, STEPS + 1):
            loss = TASK.loss(result.model(**inputs).logits, labels)
            (loss + (method.penalty(result.model) or 0.0)).backward()
            optimizer.step()
            method.after_step(result.model, step)
            optimizer.zero_grad()
        return Fitted(result, before, (first, TASK.loss(logits(result.model, inputs), labels).item()))


def starts_from_the_backbone(case: Case) -> None:
    """The untrained model's outputs are the backbone's, or `start` says why not."""
    expected = logits(load(case.backbone).model, case.inputs)
    found = logits(case.adapted().model, case.inputs) - expected
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
    """The loss on one batch halves within sixty steps."""
    before, after = case.fitted.losses
    assert after < 0.5 * before, f"the loss on one batch went from {before:.3f} to {after:.3f} only"


def counts_what_it_trains(case: Case) -> None:
    """The formula's count is that of the trained parameters, and what is stored is those and the head."""
    result, expected = case.fitted.adapted, case.method.count(case.shape)
    assert result.method_parameters == expected
    loaded = load(case.backbone)
    assert result.head_parameters == sum(loaded.model.get_parameter(key).numel() for key in loaded.head)
    stored = {key: tensor for key, tensor in trained_state(result.model).items() if not key.endswith("chosen")}
    size = sum(tensor.numel() for tensor in stored.values())
    assert size == expected + result.head_parameters, f"{size} numbers are stored"


def saves_and_loads_bit_for_bit(case: Case) -> None:
    """The stored tensors, put into a model that was adapted afresh, give the same predictions."""
    from safetensors.torch import load, save

    result, again = case.fitted.adapted, case.adapted().model
    trained = logits(result.model, case.inputs)
    assert not torch.equal(logits(again, case.inputs), trained), "training changed no prediction"
    load_trained(again, load(save(trained_state(result.model))))
    assert torch.equal(logits(again, case.inputs), trained), "predictions differ after saving and loading"


def comes_back_as_published(case: Case) -> None:
    """The folder in which others get it, loaded by the lines of its card, gives the same predictions."""
    result = case.fitted.adapted
    expected, own = logits(result.model, case.inputs), folder(case.backbone)
    trained = formats.Trained(case.method, TASK, own, case.shape, 1, tuple("abc"), trained_state(result.model))
    form = formats.of(trained)
    with tempfile.TemporaryDirectory() as place:
        form.write(trained, Path(place))
        (Path(place) / formats.BACKBONE).symlink_to(own)
        model = formats.run(form.lines(trained), Path(place))
    difference = float((logits(model, case.inputs) - expected).abs().max())
    assert difference < 1e-5, f"published for {form.library}, its predictions differ by {difference:.1e}"


def the_seed_fixes_the_weights(case: Case) -> None:
    """The same seed gives the same values, whatever was drawn before; the head's do not depend on the method."""
    results = [case.adapted(seed) for seed in (1, 1, 2)]
    first, same, other = (trained_state(result.model) for result in results)
    assert first.keys() == same.keys(), "the same seed gives other parameters"
    assert all(torch.equal(first[key], same[key]) for key in first), "the same seed gives other values"
    head = {key for key in results[0].head_names if key.endswith("weight") and "norm" not in key}
    assert head and all(not torch.equal(first[key], other[key]) for key in head), "the head does not follow the seed"
    fresh = load(case.backbone)
    plain = {key: fresh.model.get_parameter(key) for key in fresh.head}
    found = {key: first[name] for key in plain for name in results[0].head_names if name.endswith(key)}
    found |= {key: first[name] for key in plain for name in results[0].head_names if f".{key}" in f".{name}"}
    equal = [torch.equal(plain[key], found[key]) for key in plain if key in found]
    assert equal and all(equal), "the head's start depends on the method"


def padding_changes_nothing(case: Case) -> None:
    """A text's outputs are the same alone and in a padded batch."""
    model = case.fitted.adapted.model
    together = logits(model, case.inputs)
    for row, length in enumerate(case.inputs["attention_mask"].sum(1)):
        alone = logits(model, {key: value[row : row + 1, :length] for key, value in case.inputs.items()})
        difference = float((alone[0] - together[row]).abs().max())
        assert torch.allclose(alone[0], together[row], rtol=1e-4, atol=1e-5), (
            f"padding changes them by {difference:.1e}"
        )


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
        method = case.method
        engine = Engine(result.model.train(), tricks, 0, method.extra_tokens, method.plain_attention)
        loss = TASK.loss(engine.logits(_tokens(case.backbone), np.array([4, 1, 3, 0, 2, 5])), _labels())
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
            same = torch.allclose(own, gradient, rtol=1e-3, atol=2e-6 * max(1.0, largest))
            assert same, f"the engine's gradient of {name} is not the plain loop's"


def _labels() -> Tensor:
    return torch.tensor([1, 1, 0, 0, 2, 2])


def _tokens(backbone: str) -> Tokens:
    inputs, labels = batch(backbone)
    lengths = inputs["attention_mask"].sum(1).numpy()
    ids = np.concatenate([row[:length].numpy() for row, length in zip(inputs["input_ids"], lengths, strict=True)])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    about = {"pad_id": int(backbone == "roberta"), "labels": list("abc")}
    return Tokens(ids.astype(np.int32), offsets, lengths.astype(np.int32), labels.numpy().astype(np.int32), about)


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


def check(method: Method) -> Iterator[str]:
    """Yield a line for each body: that the method keeps to the contract there, or why it is impossible.

    Raises StudyError for the first check that fails, and for a method that cannot classify: the checks do.
    """
    if reason := method.cannot(TASK.name):
        raise StudyError(f"method {method.name}: the contract is held by classification, which it cannot do: {reason}.")
    for backbone in BACKBONES:
        case = Case(method, backbone)
        if case.impossible:
            yield f"{backbone}: impossible: {case.impossible}"
            continue
        for holds in CHECKS:
            try:
                holds(case)
            except AssertionError as error:
                name = holds.__name__.replace("_", " ")
                raise StudyError(f"method {method.name} on {backbone}: {name}: {str(error).splitlines()[0]}.") from None
        yield f"{backbone}: {len(CHECKS)} checks hold, {method.count(case.shape)} parameters trained"
