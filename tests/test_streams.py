"""What becomes of stdout and stderr: pipes that are closed meanwhile, terminals, names that are no text."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from oodkit.cli import main

pytest_plugins = ["bench_fixtures"]

STUBS = Path(__file__).parent / "stubs"
BENCH = "bench --no-baseline --id id.npz --ood mixed.npz --detector brightness,darkness --run-folder run".split()
HANGS = 600  # seconds after which a program has hung, on any machine


def started(*arguments, **streams):
    """A process of oodkit that the stub package is installed for."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(STUBS)]), "OMP_NUM_THREADS": "1"}
    environment["PYTHONIOENCODING"] = "utf-8:strict"  # as under a user's locale; under C, Python is lenient
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("processes", ["1", "2"])
def test_where_stdout_has_no_room_one_sentence_says_so(processes, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", processes)
    with Path("/dev/full").open("w") as full:
        listing = started("list", stdout=full, stderr=subprocess.PIPE)
        _, said = listing.communicate(timeout=HANGS)
    assert listing.returncode == 2
    assert said.startswith("oodkit: results cannot be written to stdout (No space left on device)")
    assert said.count("\n") == 1


def test_a_run_without_stdout_is_made_all_the_same(sets):
    run = subprocess.run(
        ["sh", "-c", 'exec "$0" -m oodkit "$@" >&-', sys.executable, *BENCH],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(STUBS)])},
        stderr=subprocess.PIPE,
        text=True,
        timeout=HANGS,
        check=False,
    )
    assert (run.returncode, "Traceback" in run.stderr) == (0, False)
    assert (sets / "run" / "results.jsonl").read_bytes().count(b"\n") == 2


def test_a_pipe_that_is_not_stdout_is_not_taken_for_it(stub, sets, monkeypatch, capsys):
    def broken(self, images):
        raise BrokenPipeError

    monkeypatch.setattr(stub.Brightness, "_fit", broken)
    with pytest.raises(BrokenPipeError):
        main(["fit", "--detector", "brightness", "--id", "id.npz", "--out", "light.oodkit"])
    assert not (sets / "light.oodkit").exists()


STEERS = "\x1b[31mred\x07.png"


@pytest.fixture
def light(stub, sets, capsys):
    """A folder with light.oodkit and a picture whose name would steer a terminal."""
    assert main("fit --detector light --id id.npz --out light.oodkit".split()) == 0
    Image.new("L", (32, 32), 5).save(sets / STEERS)
    capsys.readouterr()
    return sets


@pytest.mark.parametrize(
    "command",
    [
        ["explain", STEERS, "--detector-file", "light.oodkit", "--out", "maps\x1b[31m", "--patch", "16"],
        ["score", STEERS, "--detector-file", "light.oodkit"],
        ["perturb", "--id", STEERS, "--out", STEERS],
        ["explain", "\x1b[31mnone.png", "--detector-file", "light.oodkit"],
    ],
    ids=["explain", "score", "perturb", "an error"],
)
def test_no_name_steers_a_terminal(command, light, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    main(command)
    printed = "".join(capsys.readouterr())
    assert r"\x1b[31m" in printed
    assert "\x1b[31m" not in printed and "\x07" not in printed


def test_a_pipe_gets_names_that_are_no_text_as_they_are(light):
    (light / STEERS).rename(light / "\udcff.png")
    for command in (["explain", "\udcff.png", "--detector-file", "light.oodkit"], ["perturb", "--out", "\udcff.png"]):
        ended = started(*command, stdout=subprocess.PIPE, errors="surrogateescape")
        printed, _ = ended.communicate(timeout=HANGS)
        assert ended.returncode == 0 and "\udcff.png" in printed


def test_names_in_brackets_are_names_and_no_markup(install, capsys):
    install(
        "oodkit-odd",
        "from oodkit import DetectorSpec, hookimpl\n@hookimpl\ndef oodkit_detectors():\n"
        "    return [DetectorSpec(name='odd[red]', target='x:X', summary='a [bold]', model='none')]",
    )
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert "odd[red]" in printed and "a [bold]" in printed


@pytest.mark.usefixtures("stub")
def test_a_report_of_names_that_are_no_text_is_written(sets):
    (sets / "mixed.npz").rename(sets / "\udcff.npz")
    bench = ["bench", "--id", "id.npz", "--ood", "\udcff.npz", "--detector", "light", "--run-folder", "run", "--json"]
    assert main(bench) == 0
    assert main(["report", "run"]) == 0
    assert r"\udcff.npz" in (sets / "run" / "report.html").read_text()
