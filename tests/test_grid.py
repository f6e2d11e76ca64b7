"""A spec file of several runs, killed again and again, ends with the rows and files of a run left alone."""

import random
from pathlib import Path

import pytest
from forking import Forking
from test_killed import STUBS, _inputs, rows, whole_files, without_time

GRID = """
id = "id.npz"
model = "flat"
epochs = 2
train_limit = 8
limit = 6
skip_missing = true
[[run]]
detectors = ["brightness", "elbo"]
ood = ["bright.npz", "bright.npz*0.4", "resized:mixed.npz", "svhn"]
seeds = [0, 1]
[[run]]
detectors = ["elbo", "lratio-random"]
ood = ["bright.npz", "mixed.npz"]
model_seed = 0
seeds = [0, 1]
options.lratio-random = { epochs = 2, samples = 1 }
[[run]]
detectors = ["brightness"]
ood = ["bright.npz", "mixed.npz"]
options.brightness.scale = 2.0
"""
COMMAND = ("bench", "--no-baseline", "--spec", "grid.toml", "--run-folder", "run", "--device", "cpu")
KILLS = 8


@pytest.fixture(scope="module")
def forking(tmp_path_factory):
    server = Forking(STUBS, OODKIT_DATA=str(tmp_path_factory.mktemp("no-data")))  # SVHN is missing on any machine
    yield server
    server.close()


def prepared(folder: Path) -> Path:
    _inputs(folder, None)
    (folder / "grid.toml").write_text(GRID)
    return folder


@pytest.mark.parametrize("seed", range(2))
def test_a_grid_that_is_killed_many_times_repeats_no_finished_cell(forking, tmp_path_factory, seed):
    rng = random.Random(seed)
    whole, folder = prepared(tmp_path_factory.mktemp("whole")), prepared(tmp_path_factory.mktemp("killed"))
    counted = forking.run(COMMAND, whole)
    assert counted["code"] == 0, counted["printed"]
    assert "svhn is left out: no data." in counted["printed"]
    hits, kept, kept_rows = 0, {}, []
    for _ in range(KILLS):
        # each attempt gets a small part of the whole, so that the kills fall all over it
        ended = forking.run(COMMAND, folder, event=rng.randint(1, counted["events"] // 3))
        assert ended["code"] in (0, -9), ended["printed"]
        files = whole_files(folder)
        finished = [name for name in kept if name.suffix != ".checkpoint"]
        assert [name for name in finished if files.get(name, (None,))[0] != kept[name][0]] == []
        assert rows(folder)[: len(kept_rows)] == kept_rows
        kept, kept_rows = files, rows(folder)
        hits += ended["code"] == -9
    assert hits >= KILLS // 3  # the rest came after the end
    assert forking.run(COMMAND, folder)["code"] == 0
    assert rows(folder)[: len(kept_rows)] == kept_rows
    assert without_time(rows(folder)) == without_time(rows(whole))
    assert {n: t for n, (_, t) in whole_files(folder).items()} == {n: t for n, (_, t) in whole_files(whole).items()}
