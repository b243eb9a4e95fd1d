"""What peft puts into the weight matrices of a backbone's layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peftstudy.changes import projections
from peftstudy.methods import REPLACES, Method

PAST = "it computes from the backbone's own weights, and would bypass what is already on the matrix"
"""Why a method of peft's must come first on its matrices: what is there before would be trained for nothing."""
FUSED = "its queries, keys and values are made by one matrix"
"""Why a method of one of the three is impossible in some families."""


@dataclass(frozen=True)
class Injected(Method):
    """A method of peft that replaces matrices: its configuration, and what it trains for one of them.

    targets: the matrices: query, key, value, attention-output, intermediate, output. GPT-2 and ModernBERT have one for
    queries, keys and values, and any of the three adapts all of it. Query and value are those of the LoRA paper.
    """

    targets: tuple[str, ...] = ("query", "value")

    turn = REPLACES
    library = "peft"
    configuration = ""
    """The name of its configuration class in peft."""

    @property
    def matrices(self) -> tuple[str, ...]:
        return self.targets

    def settings(self) -> dict[str, Any]:
        """Return what the configuration is told beside the targets."""
        return {}

    def update(self, inputs: int, outputs: int) -> int:
        """Return how many parameters are trained for a matrix."""
        raise NotImplementedError

    def problem(self) -> str | None:
        return self.unfit() or projections.problem(self.targets)

    def unfit(self) -> str | None:
        """Return what is wrong with the options beside the targets, if anything."""
        return None

    def skip(self, shape):
        for inputs, outputs in projections.sizes(shape, self.targets):
            if reason := self.misfit(inputs, outputs):
                return reason

    def misfit(self, inputs: int, outputs: int) -> str | None:
        """Return why a matrix of that size cannot be adapted, if it cannot."""
        return None

    def config(self, model, shape) -> Any:
        """Return the library's configuration, for a model of that shape."""
        import peft

        places = projections.places(model, shape, self.targets)
        return getattr(peft, self.configuration)(**self.settings(), target_modules=places)

    def adapt(self, model, shape):
        return inject(model, self.config(model, shape))

    def count(self, shape):
        return sum(self.update(*size) for size in projections.sizes(shape, self.targets))


@dataclass(frozen=True)
class Ranked(Injected):
    """A method whose updates have a rank: two factors of it, where a subclass does not say otherwise."""

    rank: int = 8

    def unfit(self) -> str | None:
        return f"rank {self.rank}: must be at least 1" if self.rank < 1 else None

    def settings(self) -> dict[str, Any]:
        return {"r": self.rank}

    def update(self, inputs: int, outputs: int) -> int:
        return self.rank * (inputs + outputs)


def inject(model: Any, config: Any) -> Any:
    """Let peft put what `config` describes into the model; return the model."""
    import peft

    forget(model)
    return peft.inject_adapter_in_model(config, model)


def forget(model: Any) -> None:
    """Take away peft's note that it has been here: another of its methods may come beside the first on purpose."""
    vars(model).pop("peft_config", None)


def leave_sparse_unchecked() -> None:
    """Say that sparse tensors are not checked, as it is anyway: torch warns unless it was said."""
    import torch

    torch.sparse.check_sparse_tensor_invariants.disable()


def seed() -> int:
    """Return the run's seed for what a library draws from a generator of its own."""
    import torch

    return torch.initial_seed() % 2**31
