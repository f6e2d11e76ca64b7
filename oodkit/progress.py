"""How far long work is, on stderr: bars on a terminal; for a command elsewhere, in a log say, a line now and then."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console  # here and not where a bar is shown: its import draws from Python's random numbers
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from oodkit.distributed import first_process
from oodkit.progress_lines import Say, wanted_lines

__all__ = ["progress_bar"]

EVERY = 60.0  # seconds between two lines


class Shown(Protocol):
    """What is told of the work that is done."""

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Move on by `steps`; `note` stands behind them (a loss, say)."""


@contextmanager
def progress_bar(text: str, total: int, done: int = 0) -> Generator[Shown]:
    """Show how far the block is, and the time left."""
    console = Console(stderr=True)
    if console.is_terminal and first_process():
        columns = (
            TextColumn("{task.description}", markup=False),  # a name may have brackets
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            yield _Bar(progress, text, total, done)
    elif (say := wanted_lines()) is not None:
        yield _Lines(text, total, done, say)
    else:
        yield _Nothing()


class _Bar:
    def __init__(self, progress: Progress, text: str, total: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task(text, total=total, completed=done, note="")

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        self._progress.advance(self._task, steps)
        if note is not None:
            self._progress.update(self._task, note=note)


class _Lines:
    def __init__(self, text: str, total: int, done: int, say: Say) -> None:
        self._text, self._total, self._say = text, total, say
        self._first = self._done = done
        self._start = self._last = time.monotonic()

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._last < EVERY or self._done >= self._total:
            return
        self._last = now
        taken = now - self._start
        left = taken * (self._total - self._done) / max(1, self._done - self._first)
        parts = [f"{self._done:,} of {self._total:,}", f"{_clock(taken)} gone", f"about {_clock(left)} left"]
        self._say(f"{self._text}: {', '.join([*parts, *([note] if note else [])])}")


class _Nothing:
    def advance(self, steps: int = 1, note: str | None = None) -> None:
        pass


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
