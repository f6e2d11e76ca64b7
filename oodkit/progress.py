"""Progress bars on stderr, and only on a terminal: what a program or a pipe reads stays clean."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from oodkit.distributed import first_process

__all__ = ["progress_bar"]


class Bar:
    """One bar; `advance` moves it."""

    def __init__(self, progress: Progress, text: str, total: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task(text, total=total, completed=done, note="")

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Move on by `steps`; `note` stands behind the bar (a loss, say)."""
        self._progress.advance(self._task, steps)
        if note is not None:
            self._progress.update(self._task, note=note)


@contextmanager
def progress_bar(text: str, total: int, done: int = 0) -> Generator[Bar]:
    """Show a bar with the time left while the block runs; nothing where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),  # a name may have brackets
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    shown = console.is_terminal and first_process()
    progress = Progress(*columns, console=console, transient=True, disable=not shown)
    with progress if shown else nullcontext():  # rich 13.7 ends one that it does not show with an empty line
        yield Bar(progress, text, total, done)
