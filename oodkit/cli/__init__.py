"""The command line: parse, call one library function, print.

Exit codes: 0 done; 1 some of it failed, or a bug of ours (with a traceback); 2 a mistake of the user's, in one
sentence; 130 interrupted, with the line that goes on where there is one.
"""

import argparse
import ctypes
import io
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path

from oodkit.cli.output import discard, say, warnings_as_lines
from oodkit.cli.parser import build_parser, parse
from oodkit.errors import OodkitError, OptionError, in_one_line
from oodkit.progress_lines import progress_lines

__all__ = ["main"]

ALONE = ("list", "show")  # commands that only look: any number of processes may


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Raises:
        OSError: a file or pipe of a plugin's, and not stdout.
    """
    if sys.stdout is None:  # the program was started without one
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Read when torch is first imported: threads wait for each other a moment only before they sleep. Where other
    # programs want the same cores, torch's own long wait makes a run several times slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    _keep_freed_memory()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a file's name need not be text
    try:
        with warnings_as_lines(), progress_lines(say):
            code = _run(arguments)
            sys.stdout.flush()  # so that a closed pipe is noticed here and not at exit
            return code
    except OodkitError as error:
        say(f"oodkit: {in_one_line(str(error))}")
        return 2
    except KeyboardInterrupt:
        if arguments and arguments[0] in ("bench", "train"):
            say("oodkit: interrupted; all that was finished is kept.")
            say(f"Go on with: oodkit {shlex.join(arguments)}")
        else:
            say("oodkit: interrupted; the same command starts anew.")
        return 130
    except OSError:
        failed = _error_of_stdout()
        if failed is None:  # another file's or pipe's, of a plugin perhaps
            raise
        discard(sys.stdout)
        if isinstance(failed, BrokenPipeError):  # its reader (`head`) has what it wanted
            return 0
        say(f"oodkit: results cannot be written to stdout ({failed.strerror}); send them elsewhere, or make room.")
        return 2


def _error_of_stdout() -> OSError | None:
    try:
        print(flush=True)  # to flush alone tells nothing where the buffer is empty
    except OSError as error:
        return error
    return None


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed, up to 256 MiB.

    Tensors of a few megabytes are made and dropped for each batch: by itself glibc hands them back to the system and
    fetches them again page by page, which takes a fifth of a forward pass and more.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None  # musl has none
    for variable, number, value in (("MALLOC_TRIM_THRESHOLD_", -1, 2**28), ("MALLOC_MMAP_THRESHOLD_", -3, 2**25)):
        if mallopt is not None and variable not in os.environ:
            mallopt(number, value)


def _run(arguments: list[str]) -> int:
    parser = build_parser(arguments)
    if not arguments:
        parser.print_help()
        return 0
    args = parse(parser, arguments)
    run: Callable[[argparse.Namespace], int] = args.run
    return run(args) if arguments[0] in ALONE or _processes() == 1 else _run_shared(run, args, arguments[0])


def _processes() -> int:
    """Return how many processes `torchrun` started.

    Raises:
        OptionError: the environment does not say it in a number.
    """
    text = os.environ.get("WORLD_SIZE") or "1"
    if not text.isdecimal() or not 0 < len(text) < 10 or int(text) < 1:
        raise OptionError(
            f"the environment variable WORLD_SIZE is {text!r}, which is no number of processes; unset it."
        )
    return int(text)


def _run_shared(run: Callable[[argparse.Namespace], int], args: argparse.Namespace, command: str) -> int:
    """Run a command in one of several processes that `torchrun` started; only the first one prints.

    Raises:
        OptionError: a command whose work is not shared.
    """
    if command not in ("fit", "score"):
        raise OptionError(f"`oodkit {command}` runs in one process; torchrun is for `oodkit fit` and `oodkit score`.")
    from oodkit.distributed import first_process, shared_work

    with shared_work(), ExitStack() as stack:
        if not first_process():
            nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        return run(args)
