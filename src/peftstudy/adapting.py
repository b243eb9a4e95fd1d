"""A method and a loaded model become one that is ready to train; what it trained is taken out, and put back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftstudy import devices
from peftstudy.backbones import Loaded, seed_torch
from peftstudy.errors import StudyError
from peftstudy.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peftstudy.methods import Method


@dataclass(frozen=True)
class Adapted:
    """A model that is ready to train: which parameters do, by name, and how many they are."""

    model: nn.Module
    method_names: frozenset[str]
    head_names: frozenset[str]
    method_parameters: int
    head_parameters: int


def adapt(method: Method, loaded: Loaded, shape: Shape, seed: int) -> Adapted:
    """Adapt a freshly loaded model, so that the method's parameters and the head train, and nothing else.

    seed: fixes the initial values of what the method adds. The model is left in evaluation mode.
    Parameters are told apart by identity, for wrappers rename and repeat them.
    Raises StudyError when the shape is impossible, when the method lost the head, or when what
    trains is not what its formula counts.
    """
    if reason := method.skip(shape):
        raise StudyError(f"method {method.name}: impossible on this backbone: {reason}.")
    head = {id(parameter) for name, parameter in loaded.model.named_parameters() if name in loaded.head}
    loaded.model.requires_grad_(False)
    seed_torch(seed, "method")
    model = method.adapt(loaded.model, shape).eval()
    named = dict(model.named_parameters())
    head_names = frozenset(name for name, parameter in named.items() if id(parameter) in head)
    if len(head_names) != len(loaded.head):
        raise StudyError(f"method {method.name}: it replaced or removed a part of the head.")
    method_names = frozenset(name for name, parameter in named.items() if parameter.requires_grad) - head_names
    for name in head_names:
        named[name].requires_grad_(True)
    sizes = [sum(named[name].numel() for name in names) for names in (method_names, head_names)]
    if sizes[0] != method.count(shape):
        raise StudyError(
            f"method {method.name}: trains {sizes[0]} parameters of a {shape.family} of {shape.layers} layers, "
            f"{shape.hidden} wide; its formula says {method.count(shape)}."
        )
    return Adapted(model, method_names, head_names, *sizes)


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the trained tensors by name, on the CPU and apart from the model: all that a task must store.

    The model comes back by loading the backbone, adapting it with the same seed, and load_trained.
    """
    stored = {name: devices.whole(tensor.detach()) for name, tensor in _stored(model).items()}
    return {name: tensor.cpu().clone().contiguous() for name, tensor in stored.items()}


def _stored(model: nn.Module) -> dict[str, Tensor]:
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return trained | {name: buffer for name, buffer in model.named_buffers() if name.rpartition(".")[2] == "chosen"}


def load_trained(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put stored tensors back; missing, unexpected or misshapen names are a StudyError, and change nothing."""
    import torch

    named = _stored(model)
    for names, word in ((named.keys() - state.keys(), "lacks"), (state.keys() - named.keys(), "has unexpected")):
        if names:
            raise StudyError(f"trained parameters: the stored state {word} {min(names)} ({len(names)} in all).")
    for name, parameter in named.items():
        if parameter.shape != state[name].shape:
            found, known = tuple(state[name].shape), tuple(parameter.shape)
            raise StudyError(f"trained parameters: {name} is stored with shape {found}; the model has {known}.")
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(devices.share(state[name], parameter))
