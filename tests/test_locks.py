"""One writer: others wait for it, say for whom, and take over from the dead."""

import dataclasses
import errno
import json
import logging
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from peftstudy import locks, stopping

HOLD = """
import sys, time
from pathlib import Path
from peftstudy import locks
with locks.held(Path(sys.argv[1]), "a run"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.02)
    return tmp_path / "run" / "lock"


@pytest.fixture
def another(path):
    """Return a function that starts a process that holds the lock, and wait until it does."""
    started = []

    def start(seconds):
        process = subprocess.Popen([sys.executable, "-c", HOLD, path, str(seconds)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def elsewhere(path, silent=0.0, **changes):
    """Leave the lock of a process on another machine."""
    path.parent.mkdir()
    holder = dataclasses.replace(locks.Holder.me(), host="n7", **changes)
    path.write_text(json.dumps(dataclasses.asdict(holder)))
    os.utime(path, (time.time() - silent,) * 2)


def test_a_second_writer_waits_and_names_the_first(path, another, caplog):
    process = another(1.0)
    with caplog.at_level(logging.INFO), locks.held(path, "a run"):
        assert process.poll() is not None or process.wait(1) == 0
    [said] = caplog.messages
    assert said.startswith(f"a run: process {process.pid} on ") and said.endswith("is at it; waiting for its end")
    assert list(path.parent.iterdir()) == [], "nothing is left"


def test_who_waits_ends_when_asked_to(path, another, monkeypatch):
    monkeypatch.setattr(stopping, "_asked", [("SIGTERM", 0.0)])
    another(5)
    said = r"the run: SIGTERM while process \d+ on \S+ was at it"
    with pytest.raises(stopping.Stopped, match=said), locks.held(path, "the run"):
        raise AssertionError("two at once")


def test_where_there_are_no_links_writers_take_turns_too(path, another, caplog, monkeypatch):
    def link(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(os, "link", link)
    holder = another(0.4)
    with locks.held(path, "a run"):
        assert holder.poll() is not None or holder.wait(5) == 0
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert f"a run: process {holder.pid} on " in caplog.text and not path.exists()


def test_a_killed_holder_is_recognised_at_once(path, another, caplog):
    process = another(60)
    process.kill()
    process.wait()
    begin = time.monotonic()
    with caplog.at_level(logging.INFO), locks.held(path, "a run"):
        assert time.monotonic() - begin < 2
    assert caplog.messages == [f"run: process {process.pid} on {locks.platform.node()} ended without giving it up; "
                               "going on in its place"]  # fmt: skip


def test_a_killed_holder_whose_parent_does_not_ask_is_dead_too(path, another):
    process = psutil.Process(another(60).pid)
    process.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert locks._Lock(path).take() is None


def test_a_number_that_another_process_has_now_is_not_the_holder(path):
    path.parent.mkdir()
    holder = dataclasses.replace(locks.Holder.me(), started=psutil.Process().create_time() - 100)
    path.write_text(json.dumps(dataclasses.asdict(holder)))
    with locks.held(path, "a run"):
        pass


def test_a_snakemake_that_is_at_work_in_a_folder_is_found(tmp_path):
    script, here = tmp_path / "snakemake", tmp_path / "here"
    script.write_text("import time; print('up', flush=True); time.sleep(60)")
    here.mkdir()
    started = [
        subprocess.Popen([sys.executable, script, *words], cwd=folder, stdout=subprocess.PIPE)
        for words, folder in ((["-c1"], here), (["-c1"], tmp_path), (["--mode", "remote"], here))
    ]
    try:
        assert all(process.stdout.readline() for process in started)
        assert locks.snakemakes(here) == [started[0].pid]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert locks.snakemakes(here) == []


@pytest.mark.parametrize(
    ("silent", "job", "queue", "is_waited_for"),
    [
        (0, None, None, True),
        (1000, None, None, False),
        (0, "7", "RUNNING", True),
        (0, "7", "NODE_FAIL", False),
        (0, "7", "", False),
        (1000, "7", "RUNNING", False),
        (0, "8", None, False),  # this job's own earlier start, on another node
    ],
)
def test_of_other_machines_the_queue_or_the_heartbeat_tells(
    path, tmp_path, monkeypatch, silent, job, queue, is_waited_for
):
    elsewhere(path, silent, job=job)
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    monkeypatch.setenv("PATH", str(tmp_path))
    if queue is not None:
        (tmp_path / "squeue").write_text(f"#!/bin/sh\necho {queue}\n")
        (tmp_path / "squeue").chmod(0o755)
    lock = locks._Lock(path)
    assert (lock.take() is not None) == is_waited_for


def test_the_heartbeat_keeps_a_lock_fresh_and_ends_a_process_that_lost_it(path, another, tmp_path):
    code = HOLD.replace("with", "locks.HEARTBEAT_SECONDS = 0.05\nwith", 1)
    process = subprocess.Popen([sys.executable, "-c", code, path, "60"], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    os.utime(path, (0, 0))
    time.sleep(0.5)
    assert time.time() - path.stat().st_mtime < 5
    path.unlink()
    assert process.wait(5) == locks.LOST


def test_many_at_once_take_turns_also_when_the_first_left_a_dead_lock(path):
    elsewhere(path, silent=1000)
    inside, most = [], []

    def work():
        with locks.held(path, "a run"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8
