"""What the adapters library adds to a backbone's layers."""

from __future__ import annotations

import functools
from abc import abstractmethod
from typing import Any

from peftstudy.methods import ADDS, Method


class Added(Method):
    """A method of the adapters library: its configuration there says all."""

    turn = ADDS
    library = "adapters"

    @abstractmethod
    def config(self, shape) -> Any:
        """Return the library's configuration, for a backbone of that shape."""

    def adapt(self, model, shape):
        return add(model, self.name, self.config(shape))


def add(model: Any, name: str, config: Any) -> Any:
    """Let the library add what `config` describes, and train it."""
    import adapters

    from peftstudy.changes.edits import keep_within

    prepare(model)
    model.add_adapter(name, config=config)
    # Activating resets first, and that warns unless an adapter is active already.
    with adapters.AdapterSetup(name):
        model.train_adapter(name)
    return keep_within(model)


def prepare(model: Any) -> None:
    """Let the library take a model on, and change nothing in it."""
    import adapters
    from torch import nn

    places = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module.bias is None]
    adapters.init(model)
    _keep_signature(type(model))
    for place in places:
        model.get_submodule(place).bias = None  # the library gives one, drawn at random, to what had none


def _keep_signature(kind: type) -> None:
    """Let a class of the library's have a `forward` of its own, with its signature.

    The library writes each class's signature on one function that all of them have, and generation asks it what a
    model takes: with a Llama made after a BART, the BART would be given what only a Llama knows.
    """
    if "forward" in vars(kind):
        return
    shared = kind.forward

    @functools.wraps(shared)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return shared(self, *args, **kwargs)

    kind.forward = forward
