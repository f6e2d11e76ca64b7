"""Nothing finished is lost, nothing half-made is read: runs that are killed (SIGKILL), out of disk, or two at once.

Half of the kills come before a file operation drawn at random (each open, rename, mkdir, remove is as likely), half
after a random time. `make test-long` makes 200 kills, `make test` a few.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from forking import HANGS, NO_MOUNTS, Forking
from safetensors import safe_open

from oodkit.bench.store import RunFolder

pytest_plugins = ["bench_fixtures"]

STUBS = Path(__file__).parent / "stubs"
SMALL_VAE = ("--epochs", "2", "--limit", "24", "--set", "vae.width=2", "--set", "vae.latent=2")
ARTIFACTS = {".safetensors", ".oodkit", ".checkpoint"}
JOBS = {
    "bench": (
        "bench", "--no-baseline",
        "--detector", "brightness,elbo,lratio-random", "--model", "flat", "--id", "id.npz", "--seeds", "0,1",
        "--ood", "bright.npz,mixed.npz", "--epochs", "2", "--train-limit", "8", "--limit", "6", "--run-folder", "run",
        "--set", "lratio-random.epochs=2", "--set", "lratio-random.samples=1", "--device", "cpu",
    ),
    "train": ("train", "--model", "vae", "--id", "id.npz", "--out", "vae.oodkit", *SMALL_VAE, "--device", "cpu"),
    "fit": (
        "fit", "--detector", "rose-ekfac", "--model-file", "made.oodkit", "--id", "id.npz", "--limit", "24",
        "--out", "rose.oodkit", "--device", "cpu",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def forking():
    server = Forking(STUBS)
    yield server
    server.close()


@pytest.fixture(scope="module")
def uninterrupted(forking, tmp_path_factory):
    """Run each job once to its end; its name -> the folder it ran in, and what the run counted."""
    made = {}

    def run(job):
        if job not in made:
            folder = tmp_path_factory.mktemp(job)
            _inputs(folder, run("train") if job == "fit" else None)
            made[job] = folder, forking.run(JOBS[job], folder)
            assert made[job][1]["code"] == 0, made[job][1]["printed"]
        return made[job]

    return run


def _inputs(folder, trained):
    import numpy as np

    rng = np.random.default_rng(0)
    for name, low, high, count in (("id", 60, 200, 60), ("bright", 150, 256, 12), ("mixed", 0, 256, 12)):
        levels = rng.integers(low, high, size=(count, 1, 1))
        pixels = np.clip(levels + rng.integers(-20, 20, size=(count, 32, 32)), 0, 255).astype(np.uint8)
        np.savez(folder / f"{name}.npz", images=pixels)
    if trained is not None:
        shutil.copy(trained[0] / "vae.oodkit", folder / "made.oodkit")


def whole_files(folder):
    """Every artifact below `folder`, read; its file -> what tells whether it was made again, and the tensors."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in ARTIFACTS and not path.name.startswith("."):
            with safe_open(path, framework="np") as file:  # raises for half a file
                tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # no dict
            found[path.relative_to(folder)] = (path.stat().st_ino, path.stat().st_mtime_ns), tensors
    return found


def tensors_of(folder):
    return {name: tensors for name, (_, tensors) in whole_files(folder).items()}


def rows(folder):
    file = folder / "run" / "results.jsonl"
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def without_time(found):
    return sorted(
        ({k: v for k, v in row.items() if k not in ("date", "images_per_second", "check")} for row in found),
        key=lambda row: row["key"],
    )


def check_killed_and_resumed(job, seed, forking, uninterrupted, folder):
    """Kill `job` once, or twice, at random moments; finish it; compare. Return how many kills hit."""
    rng = random.Random(f"{job} {seed}")
    reference, counted = uninterrupted(job)
    _inputs(folder, uninterrupted("train") if job == "fit" else None)
    hits = 0
    for _ in range(rng.choice((1, 2))):
        if rng.random() < 0.5:
            moment = {"event": rng.randint(1, counted["events"])}
        else:
            moment = {"seconds": rng.uniform(0, counted["seconds"])}
        ended = forking.run(JOBS[job], folder, **moment)
        assert ended["code"] in (0, -9), ended["printed"]
        hits += ended["code"] == -9
        kept, kept_rows = whole_files(folder), rows(folder)
        if ended["code"] == 0:
            break
    resumed = forking.run(JOBS[job], folder)
    assert resumed["code"] == 0, resumed["printed"]
    assert "Traceback" not in resumed["printed"]
    files = whole_files(folder)
    assert tensors_of(folder) == tensors_of(reference)
    if job == "bench":
        again = [name for name in kept if name in files and files[name][0] != kept[name][0]]
        assert again == [], "made again although it was finished"
        assert rows(folder)[: len(kept_rows)] == kept_rows
        assert without_time(rows(folder)) == without_time(rows(reference))
        assert not [p for p in (folder / "run").rglob(".*") if p.suffix not in (".lock", "") or "." in p.name[1:]]
    return hits


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("job", JOBS)
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(job, seed, forking, uninterrupted, tmp_path):
    check_killed_and_resumed(job, seed, forking, uninterrupted, tmp_path)


@pytest.mark.long
def test_200_kills(forking, uninterrupted, tmp_path):
    hits, seed = 0, 100
    while hits < 200:
        for job in JOBS:
            folder = tmp_path / f"{job}-{seed}"
            folder.mkdir()
            hits += check_killed_and_resumed(job, seed, forking, uninterrupted, folder)
            shutil.rmtree(folder)
        seed += 1
    print(f"{hits} kills in {3 * (seed - 100)} runs")


# --- the disk -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("job", "size"), [("train", 3000), ("fit", 20000), ("bench", 2000)])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(job, size, forking, uninterrupted, tmp_path):
    _inputs(tmp_path, uninterrupted("train") if job == "fit" else None)
    ended = forking.run(JOBS[job], tmp_path, file_bytes=size)
    assert ended["code"] == 2, ended["printed"]
    *_, last = ended["printed"].splitlines()
    assert last.startswith("oodkit: cannot write") and "File too large" in last
    whole_files(tmp_path)
    assert forking.run(JOBS[job], tmp_path)["code"] == 0
    reference, _ = uninterrupted(job)
    assert tensors_of(tmp_path) == tensors_of(reference)


def mounted(forking, argv, folder, **how):
    """Run a command with mounts: only they make a folder read-only for root, whom permission bits do not bind."""
    ended = forking.run(argv, folder, **how)
    if ended["code"] == NO_MOUNTS:
        pytest.skip(f"mounting needs Linux, and a right that this user does not have {ended['printed']}")
    return ended


@pytest.mark.parametrize("job", JOBS)
def test_a_folder_that_cannot_be_written_is_one_sentence(job, forking, uninterrupted, tmp_path):
    _inputs(tmp_path, uninterrupted("train") if job == "fit" else None)
    (tmp_path / "run").mkdir()
    ended = mounted(forking, JOBS[job], tmp_path, before="mount --bind . . && mount -o remount,bind,ro .")
    *_, last = ended["printed"].splitlines()
    assert ended["code"] == 2 and "Traceback" not in ended["printed"], ended["printed"]
    assert last.startswith("oodkit: cannot write") and "Read-only file system" in last


def test_a_disk_that_fills_up_during_a_run_loses_nothing(forking, uninterrupted, tmp_path):
    _inputs(tmp_path, None)
    (tmp_path / "run").mkdir()
    ended = mounted(
        forking, JOBS["bench"], tmp_path, before="mount -t tmpfs -o size=64k none run", after="cp -a run kept"
    )
    assert ended["code"] == 2, ended["printed"]
    assert "No space left on device" in ended["printed"].splitlines()[-1]
    (tmp_path / "run").rmdir()
    (tmp_path / "kept").rename(tmp_path / "run")
    before = whole_files(tmp_path)
    assert before
    assert forking.run(JOBS["bench"], tmp_path)["code"] == 0
    assert {name: whole_files(tmp_path)[name] for name in before} == before
    assert without_time(rows(tmp_path)) == without_time(rows(uninterrupted("bench")[0]))


# --- the clock, and company ---------------------------------------------------------------------------------------


def test_dates_of_rows_and_files_that_jump_change_nothing_else(forking, uninterrupted, tmp_path):
    reference, _ = uninterrupted("bench")
    shutil.copytree(reference, tmp_path / "copy")
    file = tmp_path / "copy" / "run" / "results.jsonl"
    found = rows(tmp_path / "copy")
    for i, row in enumerate(found):
        del row["check"]  # of the date too
        row["date"] = "1970-01-01T00:00:00+00:00" if i % 2 else "2199-01-01T00:00:00+00:00"
    file.write_text("".join(json.dumps(row) + "\n" for row in found[:-2]))
    for i, path in enumerate(sorted((tmp_path / "copy").rglob("*"))):
        os.utime(path, (0, 0) if i % 2 else (7e9, 7e9))
    before = whole_files(tmp_path / "copy")
    ended = forking.run(JOBS["bench"], tmp_path / "copy")
    assert ended["code"] == 0 and "2 cells made now" in ended["printed"], ended["printed"]
    assert whole_files(tmp_path / "copy") == before
    assert without_time(rows(tmp_path / "copy")) == without_time(rows(reference))


@pytest.mark.parametrize("job", JOBS)
def test_under_a_clock_that_jumps_all_is_as_under_a_right_one_but_the_dates(job, forking, uninterrupted, tmp_path):
    _inputs(tmp_path, uninterrupted("train") if job == "fit" else None)
    ended = forking.run(JOBS[job], tmp_path, clock_jumps=True)
    assert ended["code"] == 0, ended["printed"]
    reference, _ = uninterrupted(job)
    made, found = whole_files(tmp_path), rows(tmp_path)
    assert tensors_of(tmp_path) == tensors_of(reference)
    assert without_time(found) == without_time(rows(reference))
    seconds = [float(text) for text in re.findall(r" in (\S+) s$", ended["printed"], re.MULTILINE)]
    seconds += [header["training"]["seconds"] for header in headers(tmp_path) if header.get("training")]
    assert seconds and all(0 <= one < HANGS for one in seconds)
    if job == "bench":
        dates = [datetime.fromisoformat(row["date"]) for row in found]
        assert max(dates) - min(dates) > timedelta(days=365), "the clock did jump"
        speeds = [row["images_per_second"] for row in found if row["ood"] != "overall"]
        assert all(1 / HANGS < speed < 1e8 for speed in speeds)
        again = forking.run(JOBS[job], tmp_path, clock_jumps=True)
        assert again["code"] == 0 and "0 cells made now" in again["printed"], again["printed"]
        assert whole_files(tmp_path) == made and rows(tmp_path) == found


def headers(folder):
    for path in whole_files(folder):
        with safe_open(folder / path, framework="np") as file:
            yield json.loads(file.metadata()["oodkit"])


def test_a_second_run_is_refused_or_waits(forking, uninterrupted, tmp_path):
    _inputs(tmp_path, None)
    with RunFolder(tmp_path / "run"):
        refused = forking.run(JOBS["bench"], tmp_path)
        assert refused["code"] == 2 and "is in use by process" in refused["printed"] and "--wait" in refused["printed"]
        waiting = forking.run([*JOBS["bench"], "--wait"], tmp_path, until="waiting for it")
        assert waiting["code"] == -9 and "waiting for it" in waiting["printed"]
        assert rows(tmp_path) == []
    done = forking.run([*JOBS["bench"], "--wait"], tmp_path)
    assert done["code"] == 0
    assert without_time(rows(tmp_path)) == without_time(rows(uninterrupted("bench")[0]))


@pytest.mark.long
def test_two_runs_at_once_share_a_folder_by_turns(uninterrupted, tmp_path):
    _inputs(tmp_path, None)
    command = [sys.executable, "-m", "oodkit", *JOBS["bench"], "--wait"]
    environment = {**os.environ, "PYTHONPATH": str(STUBS), "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    printed = [one.communicate(timeout=HANGS) for one in both]
    assert [one.returncode for one in both] == [0, 0], printed
    assert without_time(rows(tmp_path)) == without_time(rows(uninterrupted("bench")[0]))


def test_what_a_kill_left_under_a_temporary_name_is_removed(tmp_path):
    with RunFolder(tmp_path) as folder:
        left = folder.model_file("a" * 32).with_name(f".{'a' * 32}.safetensors.xyz12345")
        left.write_bytes(b"half")
        mine = tmp_path / ".notes"
        mine.write_text("not ours")
    with RunFolder(tmp_path):
        assert not left.exists() and mine.exists()
