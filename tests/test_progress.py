"""Progress is a bar on a terminal and plain lines in a log, and ends with what was made."""

import io

import pytest

from peftstudy import progress
from peftstudy.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns; Progress reads it as it reads the real one."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def run(clock, stream, total, steps, seconds, **options):
    with Progress(total, "steps", stream=stream, **options) as bar:
        for step in range(steps):
            clock[0] += seconds
            bar.update(1, f"loss {10 - step}")
    return stream.getvalue().splitlines()


def test_a_log_gets_a_line_every_half_minute_and_a_last_one(clock):
    assert run(clock, io.StringIO(), 9, 9, 10) == [
        "steps: 3 of 9 (33 %), 30.0 s, loss 8, 1 min 0 s left",
        "steps: 6 of 9 (67 %), 1 min 0 s, loss 5, 30.0 s left",
        "steps: 9 in 1 min 30 s, loss 2",
    ]


def test_short_work_gets_one_line(clock):
    assert run(clock, io.StringIO(), 3, 3, 1) == ["steps: 3 in 3.0 s, loss 8"]


def test_without_a_total_it_counts(clock):
    assert run(clock, io.StringIO(), None, 3, 20) == ["steps: 2, 40.0 s, loss 9", "steps: 3 in 1 min 0 s, loss 8"]


def test_continued_work_reckons_with_its_own_speed(clock):
    assert run(clock, io.StringIO(), 100, 4, 15, done=90) == [
        "steps: 92 of 100 (92 %), 30.0 s, loss 9, 2 min 0 s left",
        "steps: 94 of 100 (94 %), 1 min 0 s, loss 7, 1 min 30 s left",
        "steps: stopped at 94 of 100 (90 of them earlier) in 1 min 0 s, loss 7",
    ]


def test_work_that_fails_says_where_it_stopped(clock):
    stream = io.StringIO()
    with pytest.raises(ZeroDivisionError), Progress(5, "files", stream=stream) as bar:
        bar.update(2)
        raise ZeroDivisionError
    assert stream.getvalue() == "files: stopped at 2 of 5 in 0.0 s\n"


def test_a_terminal_gets_a_bar_and_the_last_line():
    stream = Terminal()
    bar = Progress(2, "files", stream=stream)
    bar.update(2, "last.csv")
    bar.close()
    assert stream.getvalue().startswith("\rfiles:   0%|") and "0/2" in stream.getvalue()
    assert stream.getvalue().endswith("files: 2 in 0.0 s, last.csv\n")


def test_it_writes_to_standard_error_and_closes_once(capsys):
    bar = Progress(1, "files")
    bar.update()
    bar.close()
    bar.close()
    assert capsys.readouterr() == ("", "files: 1 in 0.0 s\n")


@pytest.mark.parametrize(
    "seconds, words",
    [(0, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (3599.4, "59 min 59 s"), (3599.9, "1 h 0 min")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words
