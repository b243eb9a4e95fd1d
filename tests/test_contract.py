"""Every method on every family, under every task that is declared possible, held against the contract.

The default selection has every method under every task, and every family under every task; `make test-matrix` has all.
"""

import functools
import re
from collections import Counter

import pytest

from peftstudy import bodies, contract, exercises, listing, methods, tasks
from peftstudy.errors import StudyError
from peftstudy.families import ENCODERS, WRITERS

ON_WRITERS = ("bitfit", "dsee", "embeddings", "encoder", "full", "houlsby", "ia3", "layernorm", "lora", "loreft",
              "prefix", "prompt")  # fmt: skip
"""A method of each kind: those that classify on families that write, too, in the default selection."""
ALIKE = {name for name, method in methods.registered().items() if method.library == "peft"} - {"adalora", "ia3", "lora"}
ALIKE |= {"adapter-plus", "compacter-plus-plus", "direft", "noreft"}
"""Methods that reach a model as lora, houlsby and loreft do: they classify on two bodies, with biases and without."""
OPTIONS = (
    ("lora", {"rank_stabilised": True}),
    ("p-tuning", {"network": "lstm", "inner": 5}),
    ("prefix", {"inner": 3}),
    ("prompt", {"initial": "labels"}),
    ("prompt", {"initial": "random"}),
)
"""What is another way of doing it, not another size."""
STATEFUL = (
    ("adalora", "layernorm"),
    ("adalora", "prompt", "density"),
    ("density", "full"),
    ("gradient-share", "layernorm"),
    ("increlora", "layernorm"),
    ("increlora", "lora"),
)
"""Parts of which one remembers something from step to step, or adds to the loss."""
FAMILIES = ("bart", "gpt2", "llama", "modernbert", "t5")


@functools.cache
def case(name, backbone, of="classification"):
    return contract.Case(methods.create(name), backbone, of)


@functools.cache
def possible(of):
    """Return the bodies of every method that can do a task."""
    pairs = {name: [body for body in bodies.BACKBONES if not case(name, body, of).impossible]
             for name in methods.able(of)}  # fmt: skip
    return {name: on for name, on in pairs.items() if on}


def family(backbone):
    return bodies.BACKBONES[backbone][0]


def classifies(name, body):
    """Whether a method classifies on a body in the default selection."""
    if name in ALIKE:
        return body in ("bert", "modernbert")
    return family(body) in ENCODERS or name in ON_WRITERS


def selected(of):
    """Return the pairs of the default selection: all methods classify, under other tasks each has one body in turn."""
    found = possible(of).items()
    if of == "classification":
        return {(name, body) for name, on in found for body in on if classifies(name, body)}
    first = list(exercises.COLUMNS).index(of)
    return {(name, on[(first + number) % len(on)]) for number, (name, on) in enumerate(found)}


CELLS = [
    pytest.param(name, body, of, marks=() if (name, body) in selected(of) else pytest.mark.matrix)
    for of in exercises.COLUMNS
    for name, on in possible(of).items()
    for body in on
]


@pytest.mark.parametrize(("name", "backbone", "of"), CELLS)
def test_contract(name, backbone, of):
    contract.hold(contract.Case(methods.create(name), backbone, of))


VARIANTS = [
    (name, options, body, of)
    for name, options in [*OPTIONS, *(("combined", {"parts": parts}) for parts in STATEFUL)]
    for body in ("bert", *FAMILIES)
    for of in ("classification", "generation")
    if not contract.Case(methods.create(name, options), body, of).impossible
]


@pytest.mark.parametrize(("name", "options", "backbone", "of"), VARIANTS)
def test_contract_of_options_and_combinations(name, options, backbone, of):
    contract.hold(contract.Case(methods.create(name, options), backbone, of))


def test_every_option_and_combination_is_possible_on_several_families():
    found = Counter((name, str(options)) for name, options, _, _ in VARIANTS)
    assert len(found) == len(OPTIONS) + len(STATEFUL) and min(found.values()) >= 3


def test_the_default_selection_leaves_no_method_no_family_and_no_task_out():
    assert exercises.COLUMNS.keys() == tasks.registered().keys()
    for of in exercises.COLUMNS:
        names, chosen = zip(*selected(of), strict=True)
        assert set(names) == set(methods.able(of))
        assert {family(body) for body in chosen} == {family(body) for on in possible(of).values() for body in on}


IMPOSSIBLE = [(name, body) for name in methods.able("classification") for body in bodies.BACKBONES
              if case(name, body).impossible]  # fmt: skip


@pytest.mark.parametrize(("name", "backbone"), IMPOSSIBLE, ids=str)
def test_impossible_pairs_are_refused_with_their_reason_and_listed(name, backbone):
    reason = case(name, backbone).impossible
    with pytest.raises(StudyError, match="impossible on this backbone"):
        case(name, backbone).adapted()
    if family(backbone) in WRITERS and re.search(r"\d", reason):
        return  # of the sizes of this body, not of the family
    rows = [line.split(maxsplit=2) for line in listing.limits_table().splitlines()]
    assert [name, family(backbone), reason] in rows


def test_most_pairs_are_possible():
    """The families of today's users are no exceptions, and impossible is not said lightly."""
    count = len(methods.able("classification"))
    assert not [pair for pair in IMPOSSIBLE if pair[1] in ("bert", "bert-with-pooler", "roberta", "electra")]
    on_writers = [pair for pair in IMPOSSIBLE if family(pair[1]) in WRITERS]
    assert len(IMPOSSIBLE) - len(on_writers) < 0.06 * count * len(bodies.BACKBONES)
    assert len(on_writers) < 0.16 * count * len(WRITERS)


def test_a_method_is_checked_on_a_task_that_it_can_do():
    assert contract.task_for(methods.create("lora")) == "classification"
    lines = list(contract.check(methods.create("infix")))
    assert lines[0] == "bert: impossible: generation wants a backbone that writes text, and bert is an encoder"
    count = len(contract.checks("generation"))
    sizes = {"gpt2": 2560, "llama": 1280}  # whose keys are half as wide
    expected = [f"{body}: generation: {count} checks hold, {size} parameters trained" for body, size in sizes.items()]
    assert [line for line in lines if "hold" in line] == expected


def test_what_can_do_no_task_cannot_be_checked():
    class Idle(type(methods.create("lora"))):
        not_for = dict.fromkeys(exercises.COLUMNS, "it is idle")

    with pytest.raises(StudyError, match="lora: it can do none of the tasks: classification, "):
        contract.task_for(Idle())
