"""A clock that is set to and fro: each reading of the date lies years off the one before.

The clocks that only go on (`time.monotonic`, `time.perf_counter`) are left alone, as setting a clock leaves them.
"""

import datetime
import itertools
import sys
import time

__all__ = ["let_it_jump"]

SECONDS = [86_400 * days for days in (0, 400, -20_000, 3, -1, 9_000)]  # from 1972 to 2051


def let_it_jump():
    """Replace what tells the date, in this process and in all modules of oodkit that are imported already."""
    right, jumps = time.time_ns, itertools.cycle(SECONDS)

    def time_ns():
        return right() + next(jumps) * 10**9

    def seconds():
        return time_ns() / 1e9

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(seconds(), tz)

    # Not in `datetime` itself: of what is compiled, some ends the process where its class is another.
    for module in [m for name, m in sys.modules.items() if name.startswith("oodkit")]:
        for name, value in list(vars(module).items()):
            for old, new in ((time.time, seconds), (time.time_ns, time_ns), (datetime.datetime, Jumping)):
                if value is old:
                    setattr(module, name, new)
    time.time, time.time_ns = seconds, time_ns
