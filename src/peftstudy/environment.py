"""What the environment holds: the lock, the conda files made from it, and what is installed."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from peftstudy.files import write_text

CONDA = """\
# Made from requirements.lock by `python -m peftstudy.environment`; edit that instead.
# conda env create -f envs/peftstudy.yaml && conda activate peftstudy && pip install --no-deps -e .
name: peftstudy
channels:
  - conda-forge
dependencies:
  - python >=3.11,<3.14
  - pip
  - pip:
"""


def locked(lock_text: str) -> list[Requirement]:
    """Return the pinned packages of a lock, in its order, with their markers and without their hashes."""
    return [Requirement(line) for line in re.findall(r"^([a-z0-9][\w.-]*==.*?)\s*\\?$", lock_text, re.MULTILINE)]


def torch_pin(project_text: str) -> str:
    """Return the pin of torch in pyproject.toml; the lock leaves torch out."""
    return re.findall(r'"(torch==[^"]+)"', project_text)[0]


def conda_files(lock_text: str, torch: str) -> dict[str, str]:
    """Return the conda files, by name: Python, and everything else by pip, torch first."""
    lines = [torch, *map(str, locked(lock_text))]
    return {"peftstudy.yaml": CONDA + "".join(f"      - '{line}'\n" for line in lines)}


def disagreements(lock_text: str, torch: str) -> list[str]:
    """Return a line for each package of the lock that this machine needs and lacks, or has in another version."""
    lines = []
    for wanted in [*locked(lock_text), Requirement(torch)]:
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            # A local version (2.13.0+cpu) names a build of the same version.
            found = Version(version(wanted.name)).public
        except PackageNotFoundError:
            lines.append(f"{wanted.name} is not installed ({wanted.specifier} is locked)")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            lines.append(f"{wanted.name} {found} is installed ({wanted.specifier} is locked)")
    return lines


def main() -> None:
    """Write envs/ anew, from the project's root."""
    lock, project = Path("requirements.lock").read_text(), Path("pyproject.toml").read_text()
    for name, text in conda_files(lock, torch_pin(project)).items():
        write_text(Path("envs") / name, text)


if __name__ == "__main__":
    main()
