"""What becomes of stdout and stderr: pipes that are closed meanwhile, terminals, names that are no text."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from oodkit.cli import main

pytest_plugins = ["bench_fixtures"]

STUBS = Path(__file__).parent / "stubs"
BENCH = ["bench", "--id", "id.npz", "--ood", "mixed.npz", "--detector", "brightness,darkness", "--run-folder", "run"]
HANGS = 600  # seconds after which a program has hung, on any machine


def started(*arguments, **streams):
    """A process of oodkit that the stub package is installed for."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(STUBS)]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "oodkit", *arguments], env=environment, text=True, **streams)


@pytest.mark.parametrize("closed", ["stderr", "both"])
def test_a_run_that_nobody_listens_to_is_made_all_the_same(closed, sets):
    readable, writable = os.pipe()
    os.close(readable)
    out = writable if closed == "both" else subprocess.PIPE
    run = started(*BENCH, stdout=out, stderr=writable)
    os.close(writable)
    printed, _ = run.communicate(timeout=HANGS)
    assert run.returncode == 0
    assert closed == "both" or "2 cells made now" in printed
    assert (sets / "run" / "results.jsonl").read_bytes().count(b"\n") == 2


def test_a_run_without_stderr_prints_its_results_and_nothing_else(sets):
    run = subprocess.Popen(
        ["sh", "-c", 'exec "$0" -m oodkit "$@" 2>&-', sys.executable, *BENCH, "--json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(STUBS)])},
        stdout=subprocess.PIPE,
        text=True,
    )
    printed, _ = run.communicate(timeout=HANGS)
    assert (run.returncode, printed[0]) == (0, "{")


def test_a_pipe_that_is_not_stdout_is_not_taken_for_it(stub, sets, monkeypatch, capsys):
    def broken(self, images):
        raise BrokenPipeError

    monkeypatch.setattr(stub.Brightness, "_fit", broken)
    with pytest.raises(BrokenPipeError):
        main(["fit", "--detector", "brightness", "--id", "id.npz", "--out", "light.oodkit"])
    assert not (sets / "light.oodkit").exists()
