"""A process that has imported everything and forks a child for each command, which can be killed at a chosen moment.

Reads one JSON line per command: `argv`, `cwd`, and where it dies: `event` (the number of the file operation before
which it kills itself), `seconds`, or `until`, words that it prints. `file_bytes` is the largest size of a file.
With `clock_jumps`, the date that it reads jumps. `before` and `after` are shell scripts around the command, in a mount
namespace of its own, so that what they mount ends with it. Answers with one line: the exit code (-9: killed), the
seconds, how many file operations there were, and what was printed.
"""

import ctypes
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from jumping_clock import let_it_jump

IMPORTED = (  # what commands import late
    "oodkit.bench.runner", "oodkit.bench.tables", "oodkit_likelihood.detectors", "oodkit_likelihood_ratio.detector",
    "oodkit_rose.detector", "oodkit_rose.ekfac", "oodkit_vae.model", "sklearn.metrics", "torch._dynamo",
)  # fmt: skip
CLONE_NEWNS = 0x00020000  # of unshare(2): mounts of its own
NO_MOUNTS = 77  # the exit code where the user may not mount
HANGS = 600  # seconds after which a command has hung, on any machine
FILE_EVENTS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}


class Forking:
    """The process, as a test sees it."""

    def __init__(self, *paths, **environment):
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1", **environment
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, argv, cwd, **how):
        """Run a command to its end, or to where it dies; the rest as said above."""
        self.process.stdin.write(json.dumps({"argv": [str(a) for a in argv], "cwd": str(cwd), **how}) + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], HANGS + 60)[0]:
            self.process.kill()
            raise TimeoutError(f"no answer to {argv} within {HANGS + 60} seconds")
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def _serve():
    for name in IMPORTED:
        importlib.import_module(name)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for line in sys.stdin:
        with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as counted:
            print(json.dumps(_fork(json.loads(line), printed, counted)), flush=True)


def _fork(order, printed, counted):
    while signal.sigtimedwait({signal.SIGCHLD}, 0) is not None:
        pass  # of the child before
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        _obey(order, printed, counted)
    end, words = start + order.get("seconds", HANGS), order.get("until")
    while (left := end - time.perf_counter()) > 0 and not (words and words.encode() in _printed(printed)):
        if signal.sigtimedwait({signal.SIGCHLD}, min(left, 0.05) if words else left) is not None:
            break
    else:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {
        "code": status,
        "events": os.fstat(counted.fileno()).st_size,
        "seconds": time.perf_counter() - start,
        "printed": _printed(printed).decode(errors="replace"),
    }


def _printed(file):
    return os.pread(file.fileno(), 2**30, 0)  # the child writes on where it was


def _obey(order, printed, counted):
    from oodkit.cli import main

    os.chdir(order["cwd"])
    for stream in (1, 2):
        os.dup2(printed.fileno(), stream)
    if "before" in order:
        if ctypes.CDLL(None).unshare(CLONE_NEWNS) != 0:
            os._exit(NO_MOUNTS)
        if subprocess.run(["sh", "-c", f"mount --make-rprivate / && {order['before']}"], check=False).returncode != 0:
            os._exit(NO_MOUNTS)  # as in a container that lets users unshare, and not mount
        os.chdir(order["cwd"])  # again: what was mounted over it is another folder
    if "file_bytes" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"], order["file_bytes"]))
    if order.get("clock_jumps"):
        let_it_jump()
    here, last = Path(order["cwd"]), order.get("event")
    done = 0

    def watch(event, arguments):
        nonlocal done
        if event not in FILE_EVENTS or not isinstance(arguments[0], str | os.PathLike):
            return
        if not Path(here, arguments[0]).is_relative_to(here):
            return
        done += 1
        os.write(counted.fileno(), b".")
        if done == last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    try:
        code = main(order["argv"])
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if "after" in order:
        subprocess.run(["sh", "-c", order["after"]], check=True)
    os._exit(code)


if __name__ == "__main__":
    _serve()
