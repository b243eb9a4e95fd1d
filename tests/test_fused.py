"""Attention in one pass, by C that is compiled on first use, against the same by torch's operators."""

import os
import platform
import shutil
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from peftstudy.tricks import compiled, fused
from peftstudy.tricks.packing import Attention, Layout

LENGTHS = [3, 16, 17, 64, 100, 237]
possible = pytest.mark.skipif(not fused.possible(), reason="no C compiler here, and nothing compiled before")
compiles = pytest.mark.skipif(not any(map(shutil.which, compiled.COMPILERS)), reason="no C compiler here")


def states(layout, width, seed=0):
    torch.manual_seed(seed)
    return [2 * torch.randn(layout.tokens, width) for _ in range(3)]


def with_gradients(attention, layout, inputs):
    """Return the answer of each text's tokens and what a sum of its squares gives queries, keys and values."""
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    texts = layout.tokens - layout.tail
    answer = attention(*inputs)
    return [answer[:texts], *(g[:texts] for g in torch.autograd.grad(answer[:texts].square().sum(), inputs))]


def assert_same(ours, exact):
    """Compare by the largest value: what cancels out is as exact as what it was made of."""
    for one, other in zip(ours, exact, strict=True):
        assert float((one - other).abs().max()) < 1e-5 * float(other.abs().max())


def factors(layout, heads, rate, seed, causal=False):
    """Return what each weight was multiplied with, one (length, length) for each head of each text.

    Queries of zero ask all tokens alike, and a value that is one in a column of its own shows each weight there.
    """
    found, depth = [], -(-int(layout.lengths.max()) // fused.PADDED) * fused.PADDED
    value = torch.zeros(layout.tokens, heads, depth)
    for begin, length in zip(layout.offsets, layout.lengths, strict=False):
        value[begin : begin + length, :, :length] = torch.eye(length)[:, None]
    zeros, value = torch.zeros(layout.tokens, heads * depth), value.view(layout.tokens, -1)
    shown = fused.Fused.apply(zeros, zeros, value, layout, heads, rate, causal, seed).view(-1, heads, depth)
    for begin, length in zip(layout.offsets, layout.lengths, strict=False):
        found += [shown[begin : begin + length, head, :length] * length for head in range(heads)]
    return found


@possible
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "depth"), [(1, 16), (2, 64), (3, 48), (1, 80)])
def test_answers_and_gradients_are_those_of_the_operators(heads, depth, causal):
    layout = Layout(np.array(LENGTHS))
    inputs = states(layout, heads * depth)
    ours = with_gradients(lambda *x: fused.Fused.apply(*x, layout, heads, 0.0, causal, 0), layout, inputs)
    exact = [tensor.double() for tensor in inputs]
    torchs = with_gradients(lambda *x: Attention.apply(*x, layout, heads, None, causal), layout, exact)
    assert_same(ours, torchs)


@possible
def test_gradients_do_not_depend_on_how_the_one_that_comes_lies_in_memory():
    """What follows may read the answer column by column, and its gradient lies so."""
    layout = Layout(np.array(LENGTHS))
    inputs, weights = [tensor.requires_grad_() for tensor in states(layout, 64)], torch.randn(64, layout.tokens)
    answer = fused.Fused.apply(*inputs, layout, 2, 0.0, False, 0)
    by_columns = torch.autograd.grad((answer.T * weights).sum(), inputs, retain_graph=True)
    by_rows = torch.autograd.grad((answer * weights.T.contiguous()).sum(), inputs)
    assert all(map(torch.equal, by_columns, by_rows))


@possible
def test_weights_are_dropped_as_often_as_they_should_be_and_independently():
    dropped = torch.stack(factors(Layout(np.full(32, 64)), 2, 0.1, seed=1))
    values = dropped.unique()
    assert len(values) == 2 and values.tolist() == [0.0, pytest.approx(1 / 0.9, rel=1e-5)]
    zero = (dropped == 0).double()
    assert float(zero.mean()) == pytest.approx(0.1, abs=4 * (0.09 / zero.numel()) ** 0.5)
    # Neighbours are independent, in a row, from row to row, and from head to head: both dropped one time in a hundred.
    for pair in (zero[:, :, 1:] * zero[:, :, :-1], zero[:, 1:] * zero[:, :-1], zero[1:] * zero[:-1]):
        assert float(pair.mean()) == pytest.approx(0.01, abs=1.5e-3)


@possible
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_gradients_with_dropout_are_those_of_the_weights_that_stayed(rate):
    layout, heads, depth = Layout(np.array([5, 16, 33, 70])), 2, 32
    multiplied = iter(factors(layout, heads, rate, seed=7))

    def by_hand(*inputs):
        query, key, value = (x.view(-1, heads, depth).transpose(0, 1) for x in inputs)
        texts = [slice(b, b + n) for b, n in zip(layout.offsets, layout.lengths, strict=False)]
        rows = [[(torch.softmax(query[head, text] @ key[head, text].T / depth**0.5, -1) * next(multiplied))
                 @ value[head, text] for head in range(heads)] for text in texts]  # fmt: skip
        return torch.cat([torch.cat(row, dim=1) for row in rows])

    inputs = states(layout, heads * depth)
    ours = with_gradients(lambda *x: fused.Fused.apply(*x, layout, heads, rate, False, 7), layout, inputs)
    assert_same(ours, with_gradients(by_hand, layout, [x.double() for x in inputs]))


@possible
def test_a_seed_gives_the_same_bits_on_any_number_of_threads(monkeypatch):
    layout = Layout(np.array(LENGTHS))

    def found(seed, threads):
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        return with_gradients(lambda *x: fused.Fused.apply(*x, layout, 2, 0.3, False, seed), layout, states(layout, 64))

    for one, other in zip(found(3, 1), found(3, 4), strict=True):
        assert torch.equal(one, other)
    assert not torch.allclose(found(3, 1)[0], found(4, 1)[0], atol=1e-3)


@possible
def test_without_gradients_the_answer_is_the_same(monkeypatch):
    layout = Layout(np.array(LENGTHS))
    inputs = states(layout, 64)
    with torch.no_grad():
        alone = fused.Fused.apply(*inputs, layout, 2, 0.3, True, 5)
    texts = layout.tokens - layout.tail
    expected = with_gradients(lambda *x: fused.Fused.apply(*x, layout, 2, 0.3, True, 5), layout, inputs)[0]
    assert torch.equal(alone[:texts], expected) and not alone[texts:].any()


@compiles
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the registers left out are x86's")
@pytest.mark.parametrize("without", ["-mno-avx512f", "-mno-avx"])
def test_narrower_registers_drop_the_same_weights_and_give_the_same(without, monkeypatch, tmp_path):
    """A study that moves to another processor differs by rounding alone."""
    layout = Layout(np.array(LENGTHS))

    def found():
        ours = with_gradients(lambda *x: fused.Fused.apply(*x, layout, 2, 0.1, False, 3), layout, states(layout, 64))
        return ours, factors(layout, 2, 0.1, seed=3)

    widest, of_widest = found()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiled, "FLAGS", (*compiled.FLAGS, without))
    monkeypatch.setattr(compiled, "library", compiled.library.__wrapped__)
    monkeypatch.setattr(fused, "_functions", fused._functions.__wrapped__)
    narrow, of_narrow = found()
    assert_same(narrow, widest)
    assert all(torch.equal(one == 0, other == 0) for one, other in zip(of_narrow, of_widest, strict=True))
    assert len(list((tmp_path / "peftstudy").iterdir())) == 1


IN_BOUNDS = """
import numpy as np, torch
from peftstudy.tricks import compiled
compiled.FLAGS += ("-g", "-fsanitize=address")
from peftstudy.tricks import fused
from peftstudy.tricks.packing import Layout
for heads, depth, rate, causal in [(1, 16, 0.0, False), (2, 64, 0.1, False), (3, 48, 0.1, True), (1, 80, 0.0, True)]:
    for lengths in ([1], [16, 1, 33], [7, 95, 96, 97], [237]):
        layout = Layout(np.array(lengths))
        inputs = [torch.randn(layout.tokens, heads * depth).requires_grad_() for _ in range(3)]
        fused.Fused.apply(*inputs, layout, heads, rate, causal, 5).sum().backward()
        with torch.no_grad():
            fused.Fused.apply(*inputs, layout, heads, rate, causal, 5)
assert "asan" in open("/proc/self/maps").read()
"""


def sanitizer():
    """Return the shared libraries of GCC's address sanitizer, which must be there before torch; none without it."""
    names, compiler = ("libasan.so", "libstdc++.so.6"), shutil.which("cc")
    found = [
        subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        for name in names if compiler
    ]  # fmt: skip
    return found if found and all(path.startswith("/") for path in found) else []


@compiles
def test_no_byte_outside_of_its_memory_is_read_or_written(tmp_path):
    if not (libraries := sanitizer()):
        pytest.skip("cc has no address sanitizer")
    changes = {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": "detect_leaks=0", "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", IN_BOUNDS], env={**os.environ, **changes}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


@compiles
def test_what_is_compiled_is_kept_and_serves_without_a_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled.library.__wrapped__("attention")
    [kept] = tmp_path.glob("peftstudy/attention-*.so")
    monkeypatch.setenv("PATH", "")
    assert compiled.library.__wrapped__("attention") and [kept] == list(tmp_path.glob("peftstudy/*"))


FAILS = "#!/bin/sh\necho what was wrong >&2\nexit 1\n"
MAKES_NO_LIBRARY = '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho no library > "$2"\n'


def a_compiler(folder, script):
    (folder / "cc").write_text(script)
    (folder / "cc").chmod(stat.S_IRWXU)


@pytest.mark.parametrize(
    ("compiler", "said"), [(None, "no C compiler found"), (FAILS, "what was wrong"), (MAKES_NO_LIBRARY, "too short")]
)
def test_without_a_compiler_that_works_there_is_none(compiler, said, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    if compiler:
        a_compiler(tmp_path, compiler)
    assert compiled.library.__wrapped__("attention") is None
    assert said in caplog.text and not list(tmp_path.glob("cache/peftstudy/*"))


@compiles
@pytest.mark.parametrize("compiler", [FAILS, MAKES_NO_LIBRARY])
def test_the_next_compiler_is_tried(compiler, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    a_compiler(tmp_path, compiler)
    monkeypatch.setenv("CC", str(tmp_path / "cc"))
    assert compiled.library.__wrapped__("attention")


@compiles
@pytest.mark.parametrize("damage", [lambda code: code[:-5000], lambda code: code[:9000] + bytes(len(code) - 9000)])
def test_a_damaged_library_is_compiled_again(damage, tmp_path, monkeypatch):
    """Loading it would end the process, so it is looked at first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = "from peftstudy.tricks import compiled; assert compiled.library('attention').forward"
    subprocess.run([sys.executable, "-c", script], check=True)
    [kept] = tmp_path.glob("peftstudy/attention-*.so")
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    subprocess.run([sys.executable, "-c", script], check=True)
    assert kept.read_bytes() == whole


@compiles
def test_where_nothing_can_be_kept_it_is_compiled_for_the_process(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compiled.library.__wrapped__("attention")

    def no_home():
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(compiled.Path, "home", no_home)
    assert compiled.library.__wrapped__("attention")


@possible
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("causal", [False, True])
def test_what_is_no_number_stays_so(value, causal):
    """A diverged run is known by its loss."""
    layout = Layout(np.array([5, 40]))
    query, key, states_of_value = states(layout, 32)
    key[20, 3] = value
    ours = fused.Fused.apply(query, key, states_of_value, layout, 2, 0.0, causal, 0)
    exact = Attention.apply(query, key, states_of_value, layout, 2, None, causal)
    assert torch.equal(ours[:45].isnan(), exact[:45].isnan()) and ours[:45].isnan().any()


def test_an_interrupt_waits_for_what_is_under_way():
    done = []

    def part(number):
        if number == 0:
            raise KeyboardInterrupt
        time.sleep(0.2)
        done.append(number)
        return 0

    with pytest.raises(KeyboardInterrupt):
        fused._on_threads(part, 3)
    assert sorted(done) == [1, 2]
