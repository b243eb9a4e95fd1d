"""The harvester: which files, which definitions, what is masked, and the same rows each time."""

import subprocess
import sys
from pathlib import Path

import pytest

from peftstudy import docstrings
from peftstudy.errors import StudyError

SOURCE = '''
"""What this module is about, said in enough words."""

class Tensor:
    """Hold numbers in a grid of several dimensions."""

    def __init__(self, values, *, device=None):
        """Take the values and put them on a device."""

    @property
    def shape(self):
        """
        Return the sizes of all the dimensions.

            An indented line.
        """
        return self.sizes

    def _hidden(self):
        """Return what nobody outside should ever read."""


def add(a, /, b, *rest, scale=1, **more):
    """Add two torch.Tensor objects like NumPy and PyTorch do.

    Parameters
    ----------
    a : Tensor
    """
    return a + b


def short():
    """Too short."""
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install made-up distributions: a function of name, files and version."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, files, version="1.0"):
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text, encoding="utf-8")
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in files))

    return install


def test_definitions_are_found_with_kind_parameters_and_body():
    found = {definition.name: definition for definition in docstrings.definitions(SOURCE.encode())}
    kinds = {name: definition.kind for name, definition in found.items()}
    assert kinds == {
        "": "module", "Tensor": "class", "Tensor.__init__": "method", "Tensor.shape": "method",
        "Tensor._hidden": "method", "add": "function", "short": "function",
    }  # fmt: skip
    assert found["add"].parameters == ("a", "b", "rest", "scale", "more")
    assert found["Tensor"].parameters == ("values", "device")
    assert found["add"].body == "def add(a, /, b, *rest, scale=1, **more):\n    return a + b"
    assert found["Tensor.shape"].docstring == "Return the sizes of all the dimensions.\n\n    An indented line."
    assert found["Tensor.shape"].body == "def shape(self):\n    return self.sizes"


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Return the mean\nof all given values.\n\nMore.", "Return the mean of all given values."),
        ("Return the mean of all given values.\nArgs:\n  x", "Return the mean of all given values."),
        (">>> print(a, b, c, d, e, f, g)", ""),
        (".. deprecated:: 1.0 use another function instead of this", ""),
        ("Too short.", ""),
        ("x1 = [0, 1, 2, 3]; y_2 = {4: 5} # a b c d e f g", ""),
    ],
)
def test_the_summary_is_the_first_paragraph_of_prose(docstring, expected):
    assert docstrings.summary(docstring) == expected


def test_libraries_cannot_be_read_off_the_masked_summary(installed):
    text = "Add torch.Tensor, PyTorch, NUMPY, np.array, my_lib.f, my-lib and torch_function to the given collection."
    files = {"mylib/__init__.py": f'def f():\n    """{text}"""\n'}
    installed("my-lib", files)
    for name in ("numpy", "torch"):
        installed(name, {f"{name}/__init__.py": SOURCE})
    frame, _ = docstrings.harvest(["my-lib", "iniconfig", "numpy", "torch"])
    row = frame[frame["package"] == "my-lib"].iloc[0]
    assert row["library"] == "mylib" and row["summary"] == text
    masked = "Add library.Tensor, library, library, library.array, library.f, library and library_function to the"
    assert row["summary_masked"] == f"{masked} given collection."


def test_tests_vendored_copies_private_and_broken_code_stay_out(installed):
    good = 'def g():\n    """Return the good thing that everybody asked for."""\n'
    other = good.replace("good", "other")
    installed("made", {
        "made/a.py": good, "made/b.py": good, "made/tests/c.py": other, "made/_vendor/d.py": other,
        "made/version.py": other, "made/test_e.py": other, "made/f.py": "def broken(:\n",
        "made/g.py": other.replace("def g", "def _g"), "../../bin/script.py": other,
    })  # fmt: skip
    frame, manifest = docstrings.harvest(["made"])
    assert frame["id"].tolist() == ["made/made.a:g"]
    assert manifest["dropped"] == {"file that does not parse": 1, "private": 1, "repeated summary": 1}
    assert manifest["packages"]["made"]["count"] == 1 and manifest["packages"]["made"]["version"] == "1.0"


def test_ids_are_unique_where_a_name_is_defined_twice(installed):
    twice = "".join(
        f'def g():\n    """Return the {word} thing that everybody asked for."""\n' for word in ("first", "second")
    )
    installed("made", {"made/a.py": twice})
    frame, _ = docstrings.harvest(["made"])
    assert frame["id"].tolist() == ["made/made.a:g", "made/made.a:g#2"]


def test_the_same_rows_in_another_process_and_order(tmp_path):
    packages = ["pluggy", "networkx", "iniconfig"]
    frame, manifest = docstrings.harvest(packages)
    code = f"from peftstudy import docstrings; print(docstrings.harvest({packages[::-1]})[1]['sha256_rows'])"
    environment = {"PYTHONPATH": str(Path(__file__).parents[1] / "src"), "PYTHONHASHSEED": "7"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert ended.stdout.strip() == manifest["sha256_rows"], ended.stderr
    assert len(frame) > 500 and frame["id"].is_unique and frame["summary_masked"].is_unique
    assert tuple(frame.columns) == docstrings.COLUMNS


def test_packages_are_read_without_being_imported(installed):
    installed(
        "made", {"made/__init__.py": '"""This module ends the process when it is imported."""\nraise SystemExit\n'}
    )
    assert len(docstrings.harvest(["made"])[0]) == 1 and "made" not in sys.modules


def test_locked_names_are_those_of_every_platform(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "Iniconfig==2.3.1 \\\n    --hash=sha256:00\n    # via pytest\ncolorama==0.4.6 ; sys_platform == 'win32' \\\n"
        "networkx==3.6.1 ; python_full_version < '3.12'\nnetworkx==3.7 ; python_full_version >= '3.12'\n"
        "multiprocess==0.70.19\nmarkup_safe==3.0.4\n"
    )
    assert docstrings.locked(lock) == ["iniconfig", "markup-safe"]
    with pytest.raises(StudyError, match="no such file"):
        docstrings.locked(tmp_path / "absent.lock")


def test_an_unknown_package_is_refused_with_the_nearest_name():
    with pytest.raises(StudyError, match=r"unknown package 'iniconfg'.*Did you mean 'iniconfig'"):
        docstrings.harvest(["iniconfg"])
