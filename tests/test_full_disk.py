"""A full disk, a write that is cut short: one line, nothing half-written, the same numbers at the next start."""

import dataclasses
import json
import os
import resource
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


def peftstudy(asked, inputs, root, largest=resource.RLIM_INFINITY):  # noqa: F811
    """Train as the workflow does, with all that is kept under root; no file may have more bytes than the largest."""
    asked_for = Pack(asked.dataset, asked.split, asked.backbone, 1, (asked,)).json
    parts = inputs.state.parent
    return subprocess.run(
        [sys.executable, "-m", "peftstudy", "train", "--runs", asked_for, "--tokens", inputs.tokens, "--backbone",
         inputs.backbone, "--train", parts / "train.npy", "--validation", parts / "validation.npy",
         "--checkpoint-seconds", "0", "--state", root / "state", "--output", root / "runs"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest)),
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


def test_a_write_that_is_cut_short_is_one_line_and_costs_no_number(inputs, tmp_path):  # noqa: F811
    """The system takes a part of what is written and refuses the rest, as where a quota or a limit ends."""
    asked, root = spec("full"), tmp_path / "short"
    [whole] = train([asked], inputs)
    done = peftstudy(asked, inputs, root, largest=20_000)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "no checkpoint (File too large); the run goes on" in done.stderr
    assert "trained.safetensors: File too large; make room and start again" in done.stderr.splitlines()[-1]
    assert not [path for path in root.rglob("*") if path.is_file()], "nothing half-written"
    done = peftstudy(asked, inputs, root)
    assert done.returncode == 0, done.stderr
    record = files.read_sealed(root / "runs" / asked.path / "record.json")
    assert record["measured"]["validation_loss"] == whole["measured"]["validation_loss"]
