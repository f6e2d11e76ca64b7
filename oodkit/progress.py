"""How far long work is, on stderr: bars on a terminal; for a command elsewhere, in a log say, a line now and then."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Progress", "progress_bar", "progress_lines"]

Say = Callable[[str], None]
EVERY = 60.0  # seconds between two lines

_lines: ContextVar[Say | None] = ContextVar("lines", default=None)


class Progress(Protocol):
    """What is told of the work that is done."""

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Move on by `steps`; `note` stands behind them (a loss, say)."""


@contextmanager
def progress_lines(say: Say) -> Generator[None]:
    """Where stderr is no terminal, say a line each minute of long work in the block.

    Commands do so. A program that imports oodkit gets no lines that it did not ask for.
    """
    token = _lines.set(say)
    try:
        yield
    finally:
        _lines.reset(token)


@contextmanager
def progress_bar(text: str, total: int, done: int = 0) -> Generator[Progress]:
    """Show how far the block is, and the time left."""
    from rich.console import Console  # this and torch: here, as the command line imports the module at its start

    from oodkit.distributed import first_process

    console = Console(stderr=True)
    if console.is_terminal and first_process():
        with _bar(console, text, total, done) as bar:
            yield bar
    elif (say := _lines.get()) is not None:
        yield _Lines(text, total, done, say)
    else:
        yield _Nothing()


class _Nothing:
    def advance(self, steps: int = 1, note: str | None = None) -> None:
        pass


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


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def _bar(console: "Console", text: str, total: int, done: int) -> Generator[Progress]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress as Bars,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class Bar:
        def advance(self, steps: int = 1, note: str | None = None) -> None:
            bars.advance(task, steps)
            if note is not None:
                bars.update(task, note=note)

    columns = (
        TextColumn("{task.description}", markup=False),  # a name may have brackets
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task(text, total=total, completed=done, note="")
        yield Bar()
