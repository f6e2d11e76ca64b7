"""`torchrun`: two processes fit and score with the numbers of one."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import oodkit
from oodkit.cli import main

IMAGES = torch.randint(256, (41, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()


def in_two_processes(*arguments):
    """Run a command in two processes; return the finished process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, "-m", "oodkit", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def scores_in(table):
    return [float(row["score"]) for row in csv.DictReader(table.splitlines())]


@pytest.fixture
def vae(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("images.npz", images=IMAGES)
    oodkit.create_model("vae", (1, 32, 32), width=2, latent=3, device="cpu").save("vae.oodkit")


@pytest.mark.usefixtures("vae")
def test_two_processes_fit_and_score_as_one(capsys):
    fit = ["fit", "--detector", "rose-ekfac", "--model-file", "vae.oodkit", "--id", "images.npz", "--out"]
    score = ["score", "images.npz", "--detector-file"]
    assert main([*fit, "one.oodkit", "--set", "damping=1e-4"]) == 0
    capsys.readouterr()
    assert main([*score, "one.oodkit"]) == 0
    alone = capsys.readouterr().out

    fitted = in_two_processes(*fit, "two.oodkit", "--set", "damping=1e-4")
    assert fitted.returncode == 0, fitted.stderr
    assert fitted.stderr.count("two.oodkit: rose-ekfac, fitted to 33 images") == 1
    one, two = oodkit.load_detector("one.oodkit", "cpu"), oodkit.load_detector("two.oodkit", "cpu")
    for key, value in one.state.items():
        if "axes" not in key:  # an eigenvector's sign is free
            torch.testing.assert_close(two.state[key], value, rtol=1e-4, atol=1e-7)
    shared = in_two_processes(*score, "two.oodkit")
    assert shared.returncode == 0, shared.stderr
    assert len(scores_in(shared.stdout)) == 41
    np.testing.assert_allclose(scores_in(shared.stdout), scores_in(alone), rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("vae")
def test_a_detector_of_detectors_shares_its_images_once(capsys):
    """Each process has the members score its own images only; else the members' processes would wait for each other."""
    fit = ["fit", "--detector", "ensemble", "--model-file", "vae.oodkit", "--id", "images.npz", "--device", "cpu",
           "--set", "members=complexity,elbo", "--out"]  # fmt: skip
    np.savez("others.npz", images=IMAGES.transpose(0, 2, 1))  # an image of the fit would tie with its own score
    score = ["score", "others.npz", "--device", "cpu", "--detector-file"]
    assert main([*fit, "one.oodkit"]) == 0
    capsys.readouterr()
    assert main([*score, "one.oodkit"]) == 0
    alone = scores_in(capsys.readouterr().out)
    assert len(set(alone)) > 5

    fitted = in_two_processes(*fit, "two.oodkit")
    assert fitted.returncode == 0, fitted.stderr
    shared = in_two_processes(*score, "two.oodkit")
    assert shared.returncode == 0, shared.stderr
    np.testing.assert_allclose(scores_in(shared.stdout), alone, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("vae")
def test_noise_is_that_of_an_image_s_place_among_all(capsys):
    """Each process draws for all images; else the second would begin its share with the noise of the first."""
    fit = ["fit", "--detector", "rnd-random", "--id", "images.npz", "--device", "cpu", "--set", "epochs=2",
           "--set", "learning_rate=0.01", "--out"]  # fmt: skip
    score = ["score", "images.npz", "--device", "cpu", "--detector-file"]
    assert main([*fit, "one.oodkit"]) == 0
    capsys.readouterr()
    assert main([*score, "one.oodkit"]) == 0
    alone = scores_in(capsys.readouterr().out)

    fitted = in_two_processes(*fit, "two.oodkit")
    assert fitted.returncode == 0, fitted.stderr
    assert main([*score, "two.oodkit"]) == 0
    np.testing.assert_allclose(scores_in(capsys.readouterr().out), alone, rtol=1e-2)


def test_shared_work_in_one_process_says_how_to_start_two(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(oodkit.OptionError, match="there is one only; start the program with torchrun"):
        with oodkit.shared_work():
            pass


@pytest.mark.usefixtures("vae")
def test_what_is_not_shared_says_so():
    refused = in_two_processes("train", "--model", "vae", "--id", "images.npz", "--out", "x.oodkit")
    assert refused.returncode != 0
    assert "`oodkit train` runs in one process" in refused.stderr
