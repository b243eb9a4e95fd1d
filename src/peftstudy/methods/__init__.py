"""Methods: ways of adapting a backbone. One small file each; the training loop knows none by name.

To add one, write a file here with a registered subclass of Method; the contract tests and
`peftstudy methods` pick it up. Listing the methods imports no torch: a method imports what it
needs inside `adapt`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from peftstudy.adapting import Adapted, adapt, load_trained, trained_state  # noqa: F401  what is done with a method
from peftstudy.errors import StudyError
from peftstudy.options import arguments
from peftstudy.registry import Registry
from peftstudy.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor, nn

Losses = Callable[[int, int], Iterator["Tensor"]]
"""Gives mean losses of training examples: how many are drawn at random, in parts of what size."""


MARKS, ADDS, REWRITES, SHARES, REPLACES, WRAPS = range(6)
"""What methods do to a model, in the order in which a combination lets them: mark parameters, add modules, rewrite
weights, replace matrices (by such that share something first), wrap the model."""

WRITING = ("generation", "label-generation")
"""The tasks whose models write."""
NO_HEAD = dict.fromkeys(WRITING, "a model that writes has no fresh head, so that nothing would be trained")
"""Why a method that adds nothing of its own to train cannot do them alone."""


USUAL: Mapping[str, str] = {
    "adapter": "houlsby", "adapters": "houlsby", "fine-tuning": "full", "finetune": "full", "finetuning": "full",
    "full-fine-tuning": "full", "full-finetuning": "full", "layer-norm": "layernorm", "linear-probe": "head",
    "linear-probing": "head", "ln-tuning": "layernorm", "prefix-tuning": "prefix", "prompt-tuning": "prompt",
}  # fmt: skip
"""What methods are called elsewhere, where the nearest spelling would be another method's."""
ORIGINS = ("of", "trained_on")
"""The keys that say which runs a method starts from; of the configuration, beside the method's options."""


@dataclass(frozen=True)
class Origin:
    """A run that another starts from: its dataset, its method, and what it trained, by name (None: drawn afresh)."""

    dataset: str
    method: Method
    trained: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class Method(ABC):
    """A way of adapting a backbone. The dataclass fields of a subclass are its options."""

    name: ClassVar[str]
    citation: ClassVar[str] = ""
    """The key of its source in paper/references.bib; of a method of your own nothing, if need be."""
    trains: ClassVar[str]
    """What it trains, in a few words."""
    learning_rates: ClassVar[tuple[float, ...]]
    """A logarithmic grid that suits it on small encoders; as long for every method, so that searches are equal."""
    start: ClassVar[str] = ""
    """Why an adapted, untrained model gives other outputs than the backbone, if it does."""
    attention: ClassVar[str] = "sdpa"
    """The attention implementation that it needs."""
    plain_attention: ClassVar[bool] = True
    """Whether tokens attend to the tokens of their text and nothing else; if not, the engine leaves attention alone."""
    not_for: ClassVar[Mapping[str, str]] = {}
    """The tasks that it cannot do -> why."""

    turn: ClassVar[int] = MARKS
    """When it has its turn in a combination."""

    library: ClassVar[str] = ""
    """The library, peft or adapters, in whose form its trained weights can be published; its configuration there is
    what `config` returns."""

    matrices: ClassVar[tuple[str, ...]] = ()
    """The weight matrices (see changes.projections) that it trains, or puts something on."""
    sole: ClassVar[str] = ""
    """Why nothing else may be on its matrices, where nothing may."""
    innermost: ClassVar[bool] = False
    """Whether what comes after it on its matrices may be there all the same; it comes before others of its turn."""
    alone: ClassVar[str] = ""
    """Why it cannot be combined with what adds, rewrites or replaces parts of the backbone, if it cannot."""
    marks: ClassVar[frozenset[str]] = frozenset()
    """Where it trains parameters of the backbone itself, of `embeddings` and `layers`: two that do so in one place
    would train some of them twice."""

    least_origins: ClassVar[int] = 0
    """How many other runs it starts from at least; 0 is for a method that starts from its backbone alone."""
    origins: ClassVar[Sequence[Origin]] = ()
    """The runs that it starts from, once they are given."""

    def given(self, origins: Iterable[Origin]) -> Self:
        """Return the method with the runs that it starts from."""
        method = copy.copy(self)
        object.__setattr__(method, "origins", tuple(origins))  # no option of it, and so no field
        return method

    def cannot_start_from(self, method: Method) -> str | None:
        """Return why it cannot start from what runs of a method trained, if it cannot."""
        return None

    def cannot_join(self, other: Method) -> str | None:
        """Return why it cannot be combined with another method, if it cannot."""
        return None

    @abstractmethod
    def adapt(self, model: nn.Module, shape: Shape) -> nn.Module:
        """Make what the method trains require gradients, in `model` or in a wrapper around it.

        model: a transformers model with its task's head, in which nothing requires a gradient yet.
        Initial values are drawn from torch's global generator, which is seeded just before.
        The head is no business of a method: it is always trained.
        """

    @abstractmethod
    def count(self, shape: Shape) -> int:
        """Return how many parameters the method trains, the head not counted, by formula.

        Where shape.pooler says that the backbone's weights hold a pooler, the pooler belongs to the
        backbone and so to `full` and (its bias) to `bitfit`; otherwise it is fresh, a part of the head.
        """

    @property
    def extra_tokens(self) -> int:
        """How many positions it takes away from the text."""
        return 0

    def problem(self) -> str | None:
        """Return what is wrong with the options, if anything."""
        return None

    def cannot(self, task: str) -> str | None:
        """Return why the method cannot do a task, if it cannot."""
        return self.not_for.get(task)

    def skip(self, shape: Shape) -> str | None:
        """Return why the method cannot adapt a backbone of this shape, if it cannot."""
        return None

    def no_decay(self, name: str) -> bool:
        """Return whether weight decay leaves the parameter alone: biases and layer norms, as in BERT."""
        return name.endswith("bias") or "LayerNorm" in name

    def prepare(self, model: nn.Module, steps: int, losses: Losses) -> None:
        """Do what the method asks for before the first of `steps` optimizer steps; not when a run is taken up again.

        What it finds and evaluation needs belongs into a buffer called `chosen`, which is stored with the weights.
        """
        return None

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return what the method adds to the loss of the examples that just went through the model, a scalar."""
        return None

    def after_step(self, model: nn.Module, step: int) -> None:
        """Do what the method asks for after optimizer step `step` (from 1); the gradients are still there."""
        return None

    def state(self, model: nn.Module) -> dict[str, Any]:
        """Return what, beside the trained weights, a run that is taken up again must know."""
        return {}

    def restore(self, model: nn.Module, state: dict[str, Any]) -> None:
        """Put back what `state` returned."""
        return None

    @property
    def reads_whole(self) -> bool:
        """Whether its hooks see weights and gradients, which must be whole then: several devices share them out."""
        hooks = ("prepare", "penalty", "after_step", "state", "restore")
        return any(getattr(type(self), name) is not getattr(Method, name) for name in hooks)

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Return the options with their defaults; every option has one."""
        return {field.name: field.default for field in fields(cls)}


LEFT_OUT: Mapping[str, str] = {
    "adaption-prompt": "peft has it for a few kinds of decoders alone",
    "cartridge": "it is a prefix that is distilled from one long text; without one, it is `prefix`",
    "cpt": "it stands before examples within the text, for decoders that write alone",
    "lily": "its router takes a mean over the batch, so that a text's answer depends on its neighbours",
    "multitask-prompt": "it needs several tasks at once",
    "poly": "it chooses its modules by the task, and a run has one",
    "pvera": "the noise that it draws for each token in training differs with how texts are batched",
    "shadow": "it is for decoders alone",
    "trainable-tokens": "it trains embeddings of words that were added, and a study adds none",
    "xlora": "it mixes LoRAs that were trained before",
}
"""Known methods that are no part of this, and why."""

_registry: Registry[Method] = Registry(__name__, "method", "peftstudy methods", USUAL)
register = _registry.register
registered = _registry.all
file_of = _registry.file_of


def able(task: str) -> list[str]:
    """Return the names of the methods that can do a task."""
    return [name for name, method in registered().items() if task not in method.not_for]


def create(
    name: str, options: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), where: str = "", beside: Iterable[str] = ()
) -> Method:
    """Return the method of that name with these options.

    where: opens the sentence of a StudyError, which tells of an unknown method or option, a value of
    the wrong type, and a value that the method refuses. beside: what may stand beside the options there.
    """
    where = where or f"methods.{name}"
    if name in LEFT_OUT:
        raise StudyError(f"{where}: {name} is left out: {LEFT_OUT[name]}.")
    cls = _registry.find(name, where)
    _refuse_incomplete(cls, f"{where}: {name}" if name.endswith(".py") and where != name else where)
    method = cls(**arguments(cls, options, where, (*(ORIGINS if cls.least_origins else ()), *beside)))
    if problem := method.problem():
        raise StudyError(f"{where}: {problem}.")
    return method


def _refuse_incomplete(cls: type, where: str) -> None:
    """Raise StudyError when a class lacks what every method says of itself."""
    if not issubclass(cls, Method):
        raise StudyError(f"{where}: {cls.__name__} is no method; want class {cls.__name__}(Method).")
    said = [name for name in ("learning_rates", "trains") if not hasattr(cls, name)]
    if lacking := [f"{name}()" for name in sorted(cls.__abstractmethods__)] + said:
        raise StudyError(
            f"{where}: the class {cls.__name__} lacks {', '.join(lacking)}; a whole one is in README.md, Add a method."
        )
