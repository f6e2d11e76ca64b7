"""`Room`: how much of something all threads may hold together, however many there are."""

from collections.abc import Generator
from contextlib import contextmanager
from threading import Condition

__all__ = ["Room"]


class Room:
    """Room for `size` units; what is larger waits until it is alone."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = Condition()

    @contextmanager
    def take(self, units: int) -> Generator[None]:
        """Hold `units` while the block runs; wait for them first."""
        units = min(units, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= units)
            self._free -= units
        try:
            yield
        finally:
            with self._changed:
                self._free += units
                self._changed.notify_all()
