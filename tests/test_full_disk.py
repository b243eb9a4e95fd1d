"""A disk without room: one line, nothing half-written, and the next start ends with the same numbers."""

import dataclasses
import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from test_runs import inputs, spec, train  # noqa: F401

from peftstudy import files, runs
from peftstudy.study import Pack


@contextmanager
def disk(folder, kilobytes):
    """Mount a file system of so many kilobytes on a folder while the block runs."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no small disk to fill: only root can mount one")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def peftstudy(asked, inputs, root):  # noqa: F811
    """Train as the workflow does, with all that is kept on the small disk."""
    asked_for = Pack(asked.dataset, asked.split, asked.backbone, 1, (asked,)).json
    parts = inputs.state.parent
    return subprocess.run(
        [sys.executable, "-m", "peftstudy", "train", "--runs", asked_for, "--tokens", inputs.tokens, "--backbone",
         inputs.backbone, "--train", parts / "train.npy", "--validation", parts / "validation.npy",
         "--checkpoint-seconds", "0", "--state", root / "state", "--output", root / "runs"],
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("kilobytes", [60, 12])
def test_a_full_disk_is_one_line_and_costs_no_number(inputs, tmp_path, kilobytes):  # noqa: F811
    asked = spec("full")
    [whole] = train([asked], inputs)
    with disk(tmp_path / "small", kilobytes) as folder:
        done = peftstudy(asked, inputs, folder)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert "No space left on device; make room and start again" in done.stderr.splitlines()[-1]
        for path in folder.rglob("*.json"):
            json.loads(path.read_text())
        assert not list(folder.rglob("*.part"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
        done = peftstudy(asked, inputs, folder)
        assert done.returncode == 0, done.stderr
        record = files.read_sealed(folder / "runs" / asked.path / "record.json")
        assert record["measured"]["validation_loss"] == whole["measured"]["validation_loss"]


def test_no_room_for_a_checkpoint_does_not_stop_a_run(inputs, tmp_path, caplog):  # noqa: F811
    """With the optimizer's moments and the best epoch, a checkpoint is four times as large as what the run leaves."""
    [whole] = train([spec("full")], inputs)
    parts = [inputs.state.parent / f"{name}.npy" for name in ("train", "validation")]
    with disk(tmp_path / "small", 250) as folder:
        own = dataclasses.replace(inputs, state=folder / "state", output=folder / "runs")
        [record] = runs.train_pack([spec("full")], own, *parts)
    assert "no checkpoint (No space left on device); the run goes on" in caplog.text
    assert record["measured"]["validation_loss"] == whole["measured"]["validation_loss"]
