"""Long work says how far it is: a bar on a terminal, a plain line now and then in a log."""

import sys
import time
from typing import Any, Self, TextIO

SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Counts up to `total` of `what` on standard error, and closes with how many there were and how long it took.

    total: how many there will be; None when that is not known.
    what: what is counted, a plural ("steps of pre-training").
    done: how many an earlier process did, where one is continued; the time left is computed without them.
    As a context manager it closes itself, also when the work fails: then the line says where it stopped.
    """

    def __init__(self, total: int | None, what: str, done: int = 0, stream: TextIO | None = None):
        self.total, self.what, self.done = total, what, done
        self._before, self._note = done, ""
        self._stream = sys.stderr if stream is None else stream
        self._began = self._said = time.monotonic()
        self._bar = self._terminal_bar() if self._stream.isatty() else None

    def _terminal_bar(self) -> Any:
        from tqdm import tqdm

        return tqdm(total=self.total, initial=self.done, desc=self.what, file=self._stream, leave=False)

    def update(self, count: int = 1, note: str = "") -> None:
        """Count `count` more; `note` says how it goes ("loss 3.214")."""
        self.done += count
        self._note = note or self._note
        if self._bar is not None:
            self._bar.set_postfix_str(self._note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._said >= SECONDS_BETWEEN_LINES and self.done != self.total:
            self._said = time.monotonic()
            self._write(self._line())

    def _line(self) -> str:
        spent = time.monotonic() - self._began
        fresh = self.done - self._before
        parts = [self._note] if self._note else []
        counted = f"{self.done:,}"
        if self.total:
            counted += f" of {self.total:,} ({100 * self.done / self.total:.0f} %)"
            if fresh:
                parts.append(f"{duration(spent / fresh * (self.total - self.done))} left")
        return f"{self.what}: " + ", ".join([counted, duration(spent), *parts])

    def close(self) -> None:
        """Say how many there were and how long they took; a second call says nothing."""
        if self._bar is not None:
            self._bar.close()
        if self._stream is None:
            return
        made = f"{self.done:,}" if self.total in (None, self.done) else f"stopped at {self.done:,} of {self.total:,}"
        before = f" ({self._before:,} of them earlier)" if self._before else ""
        note = f", {self._note}" if self._note else ""
        self._write(f"{self.what}: {made}{before} in {duration(time.monotonic() - self._began)}{note}")
        self._stream = None

    def _write(self, line: str) -> None:
        print(line, file=self._stream, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def duration(seconds: float) -> str:
    """Return seconds in words that a reader takes in at a glance.

    >>> [duration(3.14159), duration(75), duration(7384)]
    ['3.1 s', '1 min 15 s', '2 h 3 min']
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
