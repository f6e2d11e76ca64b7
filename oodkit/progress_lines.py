"""Whether long work says how far it is where stderr is no terminal. Without torch and rich: commands start with it."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Say", "progress_lines", "wanted_lines"]

Say = Callable[[str], None]

_say: ContextVar[Say | None] = ContextVar("say", default=None)


@contextmanager
def progress_lines(say: Say) -> Generator[None]:
    """Where stderr is no terminal, say a line each minute of long work in the block.

    Commands do so. A program that imports oodkit gets no lines that it did not ask for.
    """
    token = _say.set(say)
    try:
        yield
    finally:
        _say.reset(token)


def wanted_lines() -> Say | None:
    """Return what says the lines; None where nobody asked for them."""
    return _say.get()
