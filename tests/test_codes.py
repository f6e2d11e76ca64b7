"""Exit codes and what is said with them, as `docs/running.md` has them: interrupts, bad pictures, environments."""

import pytest
from PIL import Image

from oodkit.cli import main

pytest_plugins = ["bench_fixtures"]


@pytest.mark.usefixtures("sets")
def test_an_interrupted_fit_does_not_say_that_it_is_kept(stub, capsys):
    stub.STOP_AT.append(1)
    assert main("fit --detector light --id id.npz --out light.oodkit".split()) == 130
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == "oodkit: interrupted; the same command starts anew."


@pytest.mark.usefixtures("stub")
def test_what_works_on_whole_sets_names_bad_pictures_and_returns_0(sets, capsys):
    """Real sets have them (notMNIST two): a script must not stop there. `score` and `explain` return 1."""
    (sets / "p").mkdir()
    for i in range(20):
        Image.new("L", (32, 32), i).save(sets / "p" / f"{i}.png")
    (sets / "p" / "bad.png").write_text("no picture")
    for command in (
        "fit --detector light --id p --out light.oodkit",
        "fit --detector light --id id.npz --calibration p --out light.oodkit",
        "bench --detector light --id id.npz --ood p --run-folder run",
        "train --model vae --id p --out vae.oodkit --epochs 0 --set width=1 --set latent=1",
    ):
        assert main(command.split()) == 0
        assert "bad.png: skipped" in capsys.readouterr().err, command
    assert main("score p --detector-file light.oodkit".split()) == 1


@pytest.mark.parametrize("processes", ["4", "x"])
def test_the_environment_of_other_programs_does_not_matter_to_who_only_looks(processes, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", processes)
    assert main(["list"]) == main(["show", "elbo"]) == 0
    capsys.readouterr()
    assert main(["perturb", "--count", "1"]) == 2
    assert "torchrun is for" in (told := capsys.readouterr().err) or f"WORLD_SIZE is {processes!r}" in told


@pytest.mark.usefixtures("stub", "sets")
def test_a_run_folder_in_a_spec_file_may_be_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "run.toml").write_text('detectors = "light"\nid = "id.npz"\nood = "mixed.npz"\nrun_folder = "~/rt"\n')
    assert main(["bench", "--spec", "run.toml"]) == 0
    assert (tmp_path / "home" / "rt" / "results.jsonl").exists() and not (tmp_path / "~").exists()


@pytest.mark.usefixtures("stub", "sets")
def test_the_home_of_nobody_is_one_sentence(capsys):
    assert main("fit --detector light --id id.npz --out light.oodkit".split()) == 0
    for command in ("score", "explain"):
        capsys.readouterr()
        assert main([command, "~no-such-user/a.png", "--detector-file", "light.oodkit"]) == 2
        assert "no file or folder ~no-such-user" in capsys.readouterr().err
