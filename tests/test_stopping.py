"""Signals to a process that listens: the first asks, one that comes with it says nothing new, a later one ends it."""

import os
import signal
import subprocess
import sys

import pytest

LISTENING = """
import signal, time
from peftstudy import stopping
stopping.TOGETHER_SECONDS = float({together})
stopping.listen()
print("listens", flush=True)
while not stopping.asked():
    time.sleep(0.01)
print("asked", flush=True)
input()
print("went on after", stopping.asked())
"""


def listening(together: float) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING.format(together=together)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout.readline() == "listens\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    return process


def test_what_slurm_repeats_is_one_request():
    process = listening(together=60)
    process.send_signal(signal.SIGTERM)
    assert process.communicate("\n", timeout=20)[0] == "went on after SIGTERM\n"
    assert process.returncode == 0


@pytest.mark.parametrize(("number", "together"), [(signal.SIGTERM, 0), (signal.SIGINT, 60)])
def test_another_request_ends_the_process(number, together):
    process = listening(together)
    process.send_signal(number)
    assert process.wait(20) == -number
    process.communicate()
