"""A grid over a local Ray cluster of two workers has the rows of the serial run, also where a worker is killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_killed import _inputs, rows, whole_files, without_time

from oodkit.bench.spec import read_spec
from oodkit.cli import main

pytest.importorskip("ray")

STUBS = Path(__file__).parent / "stubs"
GRID = (
    "bench", "--no-baseline",
    "--detector", "mortal,elbo,picky", "--model", "flat", "--id", "id.npz", "--ood", "bright.npz,mixed.npz",
    "--seeds", "0,1", "--epochs", "2", "--train-limit", "8", "--limit", "6", "--run-folder", "run", "--device", "cpu",
)  # fmt: skip


def bench(folder, *more):
    environment = {**os.environ, "PYTHONPATH": str(STUBS), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "oodkit", *GRID, *more]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def comparable(folder):
    """Rows without the time and without how many threads Ray gave the worker."""
    return [{**row, "device": row["device"].split(",")[0]} for row in without_time(rows(folder))]


def test_two_workers_make_the_rows_of_one_process_though_one_of_them_is_killed(tmp_path):
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    for folder in (alone, spread):
        folder.mkdir()
        _inputs(folder, None)
    expected = bench(alone)
    assert expected.returncode == 1  # picky refuses to be fitted
    (spread / "kill-me").write_text("")
    ended = bench(spread, "--engine", "ray")
    assert ended.returncode == 1, ended.stderr
    assert not (spread / "kill-me").exists()
    for made, row in zip(comparable(spread), comparable(alone), strict=True):
        assert made == row
    assert {n: t for n, (_, t) in whole_files(spread).items()} == {n: t for n, (_, t) in whole_files(alone).items()}
    assert "6 cells failed (picky on bright.npz, mixed.npz, overall)" in ended.stderr
    assert sorted((spread / "fits.txt").read_text().split()) == ["0", "1"]  # one died after its fit: none was repeated
    again = bench(spread, "--json")
    assert json.loads(again.stdout)["reused"] == 12


def test_without_a_cluster_at_the_address_it_is_one_sentence(sets, stub, capsys):
    assert read_spec(engine="ray").engine == "ray"
    code = main(
        ["bench", "--detector", "brightness", "--id", "id.npz", "--engine", "ray", "--engine-address", "nowhere"]
    )
    assert code == 2
    assert "there is no Ray cluster at nowhere" in capsys.readouterr().err
