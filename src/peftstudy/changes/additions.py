"""What the adapters library adds to a backbone's layers."""

from __future__ import annotations

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
    from torch import nn

    places = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module.bias is None]
    adapters.init(model)
    for place in places:
        model.get_submodule(place).bias = None  # the library gives one, drawn at random, to what had none
    model.add_adapter(name, config=config)
    # Activating resets first, and that warns unless an adapter is active already.
    with adapters.AdapterSetup(name):
        model.train_adapter(name)
    return model
