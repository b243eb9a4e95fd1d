"""Several methods at once."""

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product

from peftstudy.changes.additions import Added, add
from peftstudy.changes.injection import Injected
from peftstudy.errors import StudyError
from peftstudy.methods import MARKS, NO_HEAD, REPLACES, REWRITES, SHARES, WRAPS, Method, create, register
from peftstudy.methods.bottleneck import Bottleneck
from peftstudy.methods.hybrids import Hybrid
from peftstudy.methods.prefix import LoReFT


@register("combined")
@dataclass(frozen=True)
class Combined(Method):
    """Train what several methods train, together (as Ding et al., 2023, combine them).

    parts: their names, or a block of names and each one's options: {lora: {rank: 4}, bitfit: {}}. The paper combines
    prompts, biases and bottleneck modules.
    """

    parts: tuple[object, ...] = ("bitfit", "lora")

    citation = "ding2023delta"
    trains = "what its parts train"
    learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)

    @cached_property
    def methods(self) -> list[Method]:
        """The parts, in the order in which they are put in."""
        made = [create(name, options, f"parts.{name}") for name, options in map(_named, self.parts)]
        return sorted(made, key=lambda method: (method.turn, not method.innermost, method.name))

    def problem(self):
        try:
            names = [method.name for method in self.methods]
        except StudyError as error:
            return str(error).removesuffix(".")
        if len(set(names)) < max(2, len(names)) or self.name in names:
            return f"parts {', '.join(names)}: want two or more, each once"
        if starting := next((method.name for method in self.methods if method.least_origins), None):
            return f"{starting} cannot be combined: it starts from other runs"
        for rule, (one, other) in product(RULES, permutations(self.methods, 2)):
            if reason := rule(one, other):
                return f"{one.name} cannot be combined with {other.name}: {reason}"

    def cannot(self, task):
        parts = [part for part in self.methods if part.not_for is not NO_HEAD] or self.methods
        return next((f"{part.name}: {reason}" for part in parts if (reason := part.cannot(task))), None)

    def skip(self, shape):
        changing = [method for method in self.methods if method.turn in (REWRITES, SHARES, REPLACES)]
        if shape.family == "gpt2" and changing and any(isinstance(method, Added) for method in self.methods):
            return f"beside adapters, GPT-2's matrices have a form that {changing[0].name} does not know"
        for method in self.methods:
            if reason := method.skip(shape):
                return f"{method.name}: {reason}"
        for one, other in permutations(self.methods, 2):
            if _excludes(one, other) and _share(one, other, shape):
                return f"{one.name} cannot be combined with {other.name}: {_overlap(one)}"

    @property
    def start(self):
        return "; ".join(method.start for method in self.methods if method.start)

    @property
    def attention(self):
        return next((method.attention for method in self.methods if method.attention != "sdpa"), "sdpa")

    @property
    def plain_attention(self):
        return all(method.plain_attention for method in self.methods)

    @property
    def extra_tokens(self):
        return sum(method.extra_tokens for method in self.methods)

    def adapt(self, model, shape):
        trained, of = {}, {}
        for adapt, names in self._steps(shape):
            model.requires_grad_(False)
            model = adapt(model)
            for name, parameter in model.named_parameters():
                if not parameter.requires_grad:
                    continue
                if id(parameter) in of and "pooler" not in name and "classifier" not in name:
                    raise StudyError(f"methods.combined: {of[id(parameter)]} and {names} both train {name}.")
                trained[id(parameter)], of[id(parameter)] = parameter, names
        for parameter in trained.values():
            parameter.requires_grad_(True)
        return model

    def _steps(self, shape):
        """Yield what adapts a model, and the names of the parts that it stands for."""
        added = [method for method in self.methods if isinstance(method, Added)]
        for method in self.methods:
            if method not in added or len(added) == 1:
                yield lambda model, method=method: method.adapt(model, shape), method.name
            elif method is added[0]:
                yield lambda model: add_all(model, shape, added), " and ".join(part.name for part in added)

    def count(self, shape):
        return sum(method.count(shape) for method in self.methods)

    def no_decay(self, name):
        return any(method.no_decay(name) for method in self.methods)

    def prepare(self, model, steps, losses):
        for method in self.methods:
            method.prepare(_own(method, model), steps, losses)

    def penalty(self, model):
        terms = [method.penalty(_own(method, model)) for method in self.methods]
        terms = [term for term in terms if term is not None]
        return sum(terms) if terms else None

    def after_step(self, model, step):
        for method in self.methods:
            method.after_step(_own(method, model), step)

    def state(self, model):
        return {method.name: method.state(_own(method, model)) for method in self.methods}

    def restore(self, model, state):
        for method in self.methods:
            method.restore(_own(method, model), state[method.name])


def _named(part):
    """Return a part's name and its options: a list holds names, a block pairs of a name and its own block."""
    match part:
        case str(name) | (str(name), None):
            return name, ()
        case (str(name), tuple(options)) if all(isinstance(option, tuple) for option in options):
            return name, options
        case (str(name), other):
            raise StudyError(f"parts.{name}: found {other!r}, want a block of its options.")
    raise StudyError(f"parts: found {part!r}, want names, or a block of names and each one's options.")


def add_all(model, shape, added):
    """Let the adapters library add several methods as one."""
    from adapters import ConfigUnion

    return add(model, "-".join(method.name for method in added), ConfigUnion(*(m.config(shape) for m in added)))


def _says_itself(one, other):
    return one.cannot_join(other)


def _stands_alone(one, other):
    return one.alone if other.turn not in (MARKS, WRAPS) else None


def _is_at_one_place_in_peft(one, other):
    if not isinstance(one, Injected) or not isinstance(other, Injected):
        return None
    same = one.turn == other.turn == SHARES or one.configuration == other.configuration != ""
    return "in peft they are one, or share one place" if same else None


def _shares_matrices(one, other):
    return _overlap(one) if _excludes(one, other) and {*one.matrices} & {*other.matrices} else None


def _trains_the_same(one, other):
    return "both train some parameters of the backbone" if one.marks & other.marks else None


def _wraps_as_well(one, other):
    return "both put vectors beside the text" if one.turn == other.turn == WRAPS else None


def _is_no_part_in_adapters(one, other):
    if not isinstance(one, Added) or not isinstance(other, Added):
        return None
    is_whole = type(one).adapt is not Added.adapt or isinstance(one, Hybrid)
    return "no other method of the adapters library can stand beside it" if is_whole else None


def _is_at_one_place_in_adapters(one, other):
    same = any(isinstance(one, kind) and isinstance(other, kind) for kind in (Bottleneck, LoReFT))
    return "in the adapters library they share one place" if same else None


RULES = (
    _says_itself, _stands_alone, _is_at_one_place_in_peft, _shares_matrices, _trains_the_same, _wraps_as_well,
    _is_no_part_in_adapters, _is_at_one_place_in_adapters,
)  # fmt: skip
"""Each tells, of one method and another, why the one cannot be combined with the other, if it cannot."""


def _excludes(method, other):
    """Whether a method is not to have another on its matrices."""
    comes_after = method.innermost and other.turn >= method.turn and not other.sole
    return bool(method.sole) and not comes_after


def _overlap(method):
    return f"they share matrices (targets), and {method.sole}"


def _share(method, other, shape):
    """Whether two methods have a matrix in common: some families make queries, keys and values by one."""
    return any({*stack.of(method.matrices)} & {*stack.of(other.matrices)} for stack in shape.stacks)


def _own(method, model):
    """Return the model that a part adapted: not the one that the last part wrapped around it."""
    from peftstudy.writing import library_model

    return model if method.turn == WRAPS else library_model(model)
