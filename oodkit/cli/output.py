"""Where output goes: results on stdout, warnings and remarks on stderr, a line each."""

import json
import math
import os
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from oodkit.errors import ArtifactError, in_one_line

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["as_json", "check_out", "discard", "results_console", "say", "shown", "warnings_as_lines"]

PIPE_WIDTH = 250  # what a pipe or a file gets: no line is folded for a terminal that is not there


def results_console() -> "Console":
    """Return the console of stdout: as wide as the terminal, or wide and plain where there is none."""
    from rich.console import Console

    class Results(Console):
        def on_broken_pipe(self) -> None:
            # main deals with it; rich would end the process with 1.
            raise BrokenPipeError

    return Results(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def as_json(document: Any) -> str:  # Any: what JSON can hold
    """Return a document as JSON text; numbers that JSON does not have are texts: "inf", "-inf", "nan"."""
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:  # Any: as above
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def shown(name: str) -> str:
    """Return a name as stdout may have it: a terminal what it cannot be steered by, a file or a pipe as it is."""
    return in_one_line(name) if sys.stdout.isatty() else name


def check_out(path: Path) -> None:
    """Make the folder of a file that is to be written, before the work that it is to hold.

    Raises:
        ArtifactError: the folder cannot be made, or the path is a folder itself, a device or a pipe.
    """
    from oodkit.artifact import refuse_other_than_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_other_than_file(path)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}; choose another --out.") from error


def say(text: str) -> None:
    """Print a remark on stderr, of one line or several; where it cannot be printed, the work goes on without it."""
    if sys.stderr is None:  # it was closed before we began; `print` would take stdout
        return
    try:
        print("\n".join(map(in_one_line, text.split("\n"))), file=sys.stderr, flush=True)
    except BrokenPipeError:
        discard(sys.stderr)
    except OSError:  # a full disk, a terminal that has gone
        pass


def discard(stream: TextIO) -> None:
    """Send to nowhere what is written to a closed pipe or full disk from now on: flushing it at the end would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError):  # a stream without a file, as a program that calls `main` may have put there
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def warnings_as_lines() -> Generator[None]:
    """Print oodkit's warnings, each in one line on stderr, every time."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        say(f"oodkit: {in_one_line(str(message))}")

    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=UserWarning, module="oodkit")
        warnings.showwarning = show
        yield
