"""The command line, end to end: what is printed where, exit codes, and that mistakes cost one sentence."""

import csv
import ctypes
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oodkit import load_detector
from oodkit.cli import main
from oodkit.perturbations import brightness, perturb

pytest_plugins = ["bench_fixtures"]

STUBS = Path(__file__).parent / "stubs"
HANGS = 600  # seconds after which a program has hung, on any machine
BENCH = ["bench", "--no-baseline", "--id", "id.npz", "--ood", "bright.npz,mixed.npz"]
QUICK = ["--detector", "brightness,darkness"]
TINY = ["--set", "vae.width=2", "--set", "vae.latent=4", "--epochs", "1"]


@pytest.fixture
def tiny_vae(sets, capsys):
    """A file with a VAE that saw the ID set once."""
    assert main(["train", "--model", "vae", "--id", "id.npz", "--out", "vae.oodkit", *TINY]) == 0
    capsys.readouterr()
    return sets / "vae.oodkit"


def sentence(capsys):
    """The one line that a mistake costs."""
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("oodkit: ")
    return err


# --- what is there ------------------------------------------------------------------------------------------------


def python(*arguments, **changes):
    environment = {**os.environ, "PYTHONPATH": str(STUBS), **changes}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=HANGS)


@pytest.mark.parametrize("command", [[], ["--help"], ["bench", "--help"], ["list"], ["show", "rose-ekfac"]])
def test_looking_around_does_not_import_torch(command):
    script = (
        "import sys, contextlib; from oodkit.cli import main\n"
        f"with contextlib.suppress(SystemExit): main({command!r})\n"
        "sys.exit('torch' in sys.modules)"
    )
    ended = python("-c", script)
    assert ended.returncode == 0, ended.stderr
    assert "oodkit" in ended.stdout


def test_python_dash_m():
    ended = python("-m", "oodkit", "--version")
    assert (ended.returncode, ended.stdout.split()[0]) == (0, "oodkit")


@pytest.mark.usefixtures("stub")
def test_list_names_everything_with_its_package(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for text in (
        "brightness",
        "oodkit-stub 1.0",
        "mean of the sub-pixels [0, 255] (also light)",
        "vae",
        "digits",
        "ekfac",
    ):
        assert text in printed
    assert main(["list", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert {"name": "light"} not in listing["detectors"]
    (entry,) = [d for d in listing["detectors"] if d["name"] == "brightness"]
    assert (entry["aliases"], entry["package"]) == (["light"], "oodkit-stub 1.0")


def test_list_tells_of_broken_packages(tmp_path, capsys, stub, monkeypatch):
    info = tmp_path / "broken-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[oodkit]\nbroken = no_such_module_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["list"]) == 0
    assert "Problem: broken 0.1: entry point 'broken' is broken" in capsys.readouterr().out


@pytest.mark.usefixtures("stub")
def test_show_tells_options_and_limits(capsys):
    assert main(["show", "light"]) == 0
    printed = capsys.readouterr().out
    assert "brightness: detector, from oodkit-stub 1.0" in printed
    assert "float > 0: Scores are multiplied by this." in printed
    for name in ("rose-ekfac", "vae", "ekfac", "digits"):
        assert main(["show", name, "--json"]) == 0
        assert [one["name"] for one in json.loads(capsys.readouterr().out)] == [name]


def test_values_are_shown_as_set_takes_them(capsys):
    for name, text in (("digits", "epochs = 8, flips = false"), ("vae", " true "), ("complexity", " png,jp2,jpeg ")):
        assert main(["show", name]) == 0
        assert text in capsys.readouterr().out


# --- bench --------------------------------------------------------------------------------------------------------


def test_a_log_says_how_far_the_training_is(sets, monkeypatch, capsys):
    monkeypatch.setattr("oodkit.progress.EVERY", 0)
    assert main(["train", "--id", "id.npz", "--out", "vae.oodkit", "--epochs", "2", "--set", "vae.width=2"]) == 0
    assert re.search(r"^train vae on id\.npz: 1 of 2, \S+ gone, about \S+ left", capsys.readouterr().err, re.MULTILINE)


def test_bench_prints_tables_and_resumes(sets, capsys):
    command = [*BENCH, *TINY, "--detector", "nll,elbo,rose-diag", "--set", "nll.samples=2"]
    assert main(command) == 0
    first = capsys.readouterr()
    assert "trained vae" in first.err
    for text in (
        "rose-diag",
        "bright.npz",
        "overall",
        "mean",
        "worst",
        "images/s",
        "Run folder: runs/id (9 cells made",
    ):
        assert text in first.out
    assert main(command) == 0
    second = capsys.readouterr()
    assert second.err == "id.npz: no splits: 48 of 60 for training, 12 for tests (drawn, seed 0)\n"
    assert second.out == first.out.replace("(9 cells made now, 0 found)", "(0 cells made now, 9 found)")


@pytest.mark.usefixtures("stub", "sets")
def test_json_is_all_that_is_on_stdout(capsys):
    assert main([*BENCH, *QUICK, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(c["detector"], c["ood"]) for c in document["cells"]][:2] == [
        ("brightness", "bright.npz"),
        ("brightness", "mixed.npz"),
    ]
    assert document["run_folder"] == "runs/id"


@pytest.mark.usefixtures("stub", "sets")
def test_failed_cells_are_named_and_give_1(capsys):
    assert main(["bench", "--id", "id.npz", "--ood", "white.npz,mixed.npz", "--detector", "picky,buggy"]) == 1
    out, err = capsys.readouterr()
    assert "failed" in out
    assert "3 cells failed (picky on white.npz, mixed.npz, overall): 48 images are too few for picky." in err
    assert "2 cells failed (buggy on white.npz, overall): ZeroDivisionError" in err
    assert err.count("Traceback") == 1  # of the bug, and not of the mistake


@pytest.mark.usefixtures("sets")
def test_warnings_are_lines(stub, capsys):
    assert main(["bench", "--id", "id.npz", "--ood", "mixed.npz", "--detector", "undefined"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert "oodkit: undefined: 12 of 12 scores are NaN; taken as +inf." in lines


@pytest.mark.usefixtures("sets")
def test_an_interrupt_gives_130_and_the_line_that_goes_on(stub, capsys):
    stub.STOP_AT.append(5)
    command = [*BENCH, *QUICK, "--set", "light.scale=2"]
    assert main(command) == 130
    err = capsys.readouterr().err
    assert f"Go on with: oodkit {' '.join(command)}" in err
    assert "Traceback" not in err
    stub.STOP_AT.clear()
    assert main(command) == 0
    assert "3 found" in capsys.readouterr().out


def test_a_model_from_a_file(tiny_vae, capsys):
    assert main([*BENCH, "--model", str(tiny_vae), "--detector", "elbo"]) == 0
    assert "model: vae from" in capsys.readouterr().out
    assert main([*BENCH, "--model", str(tiny_vae), "--detector", "elbo", "--set", "vae.width=3"]) == 2
    assert "cannot be changed any more" in sentence(capsys)


def test_bench_remarks_on_what_its_figures_rest_on(tiny_vae, sets, capsys):
    """A model of other images than the run's, and pictures that could not be read."""
    (sets / "pictures").mkdir()
    for name in ("a.png", "c.png"):
        Image.fromarray(np.full((32, 32), 7, dtype=np.uint8)).save(sets / "pictures" / name)
    (sets / "pictures" / "b.png").write_bytes(b"\x89PNG, or not")
    command = f"bench --model {tiny_vae} --detector elbo --id bright.npz --ood pictures"
    assert main(command.split()) == 0
    err = capsys.readouterr().err
    assert f"{tiny_vae} was trained on id.npz, not on bright.npz." in err
    assert "pictures: 1 files left out; the first: b.png" in err


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("bench --detector rose-ekfax", "did you mean rose-ekfac"),
        ("bench --model vea", "did you mean vae"),
        ("bench --id nosuch", "'nosuch'"),
        ("bench --id id.npz --ood none.zip", "none.zip"),
        ("bench --ood broken.npz", "broken.npz"),
        ("bench --ood empty", "empty"),
        ("bench --set rose-ekfac.damping=-1", "rose-ekfac.damping"),
        ("bench --set rose-ekfac.dampin=1", "did you mean damping"),
        ("bench --set damping", "NAME.OPTION=VALUE"),
        ("bench --limit many", "bench.limit = 'many'"),
        ("bench --device tpu", "tpu"),
        ("bench --device cuda:63", "cuda:63"),
        ("bench --spec broken.npz", "is no TOML file"),
        ("bench --spec nowhere.toml", "cannot read the spec nowhere.toml"),
        ("bench --id id.npz --ood mixed.npz --run-folder broken.npz", "cannot write the run folder"),
        ("bench --detectr nll", "did you mean --detector"),
        ("bench --limit", "expected one argument"),
        ("bnech", "did you mean bench"),
        ("show rose-ekfa", "did you mean rose-ekfac"),
        ("train --id id.npz --out m.oodkit --model vea", "did you mean vae"),
        ("train --id id.npz", "--out"),
        ("train --id id.npz --out m.oodkit --set light.x=1", "only vae takes options here"),
        ("train --id id.npz --out empty", "it is a folder"),
        ("train --id id.npz --out broken.npz/m.oodkit", "cannot write broken.npz"),
        ("fit --detector nll --id id.npz --out d.oodkit", "--model-file"),
        ("fit --detector nll --id id.npz --out d.oodkit --model-file broken.npz", "broken.npz"),
        ("bench --seeds 0-3", "'0-3' is no seed; write whole numbers with commas"),
        ("fit --detector all --id id.npz --out d.oodkit", "fit takes one detector"),
        ("report runs/x --markdown --out page.md", "--markdown prints tables on stdout"),
        ("score id.npz", "--detector-file"),
        ("score id.npz --detector-file broken.npz", "broken.npz"),
    ],
)
def test_a_mistake_costs_one_sentence(command, words, sets, capsys):
    (sets / "broken.npz").write_text("no array")
    (sets / "empty").mkdir()
    assert main(command.split()) == 2
    assert words in sentence(capsys)
    assert not (sets / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_where_there_is_none(capsys):
    assert main(["bench", "--device", "cuda"]) == 2
    assert "has no device 'cuda'" in sentence(capsys)


def test_a_closed_pipe_is_no_error():
    writer = subprocess.Popen(
        [sys.executable, "-m", "oodkit", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    writer.stdout.close()
    with writer.stderr:
        told = writer.stderr.read()
    assert (writer.wait(timeout=HANGS), told) == (0, "")


# --- train, fit, score --------------------------------------------------------------------------------------------


def test_score_pictures_with_a_fitted_detector(tiny_vae, sets, capsys):
    assert main("fit --detector elbo --model-file vae.oodkit --id id.npz --out elbo.oodkit".split()) == 0
    (sets / "pictures" / "deep").mkdir(parents=True)
    for place in ("pictures/b.png", "pictures/deep/a.png"):
        Image.fromarray(np.full((9, 14, 3), len(place), dtype=np.uint8)).save(sets / place)
    capsys.readouterr()
    assert main("score pictures --detector-file elbo.oodkit".split()) == 2
    assert "have them converted with --resize" in sentence(capsys)
    assert main("score pictures --detector-file elbo.oodkit --resize".split()) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["path"] for row in rows] == ["pictures/b.png", "pictures/deep/a.png"]
    alone = [float(row["score"]) for row in rows]

    shutil.make_archive("packed", "zip", "pictures")
    assert main("score packed.zip --detector-file elbo.oodkit --resize".split()) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["path"] for row in rows] == ["packed.zip/b.png", "packed.zip/deep/a.png"]

    (sets / "pictures" / "c.png").write_text("no picture")
    assert main("score pictures mixed.npz --detector-file elbo.oodkit --resize --json".split()) == 1
    out, err = capsys.readouterr()
    assert "c.png" in err
    scores = json.loads(out)["scores"]
    assert [s["score"] for s in scores[:2]] == pytest.approx(alone, rel=1e-5)
    assert [s.get("index") for s in scores] == [None, None, *range(12)]


def test_nothing_that_can_be_scored_is_a_mistake(tiny_vae, sets, capsys):
    assert main("fit --detector elbo --model-file vae.oodkit --id id.npz --out elbo.oodkit".split()) == 0
    (sets / "bad.png").write_text("no picture")
    capsys.readouterr()
    assert main("score bad.png --detector-file elbo.oodkit --json".split()) == 2
    assert "bad.png" in sentence(capsys)


def test_fit_takes_options_by_an_alias_and_does_not_write_over_its_model(tiny_vae, capsys):
    fit = ["fit", "--detector", "rose", "--model-file", "vae.oodkit", "--id", "id.npz", "--set", "rose.damping=1e-3"]
    before = tiny_vae.read_bytes()
    assert main([*fit, "--out", "./vae.oodkit"]) == 2
    assert "which would be lost" in sentence(capsys)
    assert tiny_vae.read_bytes() == before
    assert main([*fit, "--out", "rose.oodkit"]) == 0
    assert load_detector("rose.oodkit", "cpu").options.damping == pytest.approx(1e-3)


@pytest.mark.usefixtures("stub", "sets")
def test_fit_without_a_model(capsys):
    assert main("fit --detector light --id id.npz --out light.oodkit --set scale=2 --limit 20".split()) == 0
    capsys.readouterr()
    assert main("score white.npz --detector-file light.oodkit".split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["path,index,score", *(f"white.npz,{i},510.0" for i in range(3))]


def test_perturb_draws_a_row_for_each_image_and_a_column_for_each_perturbation(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = torch.randint(256, (3, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    np.savez("mine.npz", images=images.permute(0, 2, 3, 1).numpy())
    assert main(["perturb", "--id", "mine.npz", "--count", "3", "--out", "sheet.png"]) == 0
    assert capsys.readouterr().out.strip() == "sheet.png"
    sheet = torch.from_numpy(np.asarray(Image.open("sheet.png"))[:, :, 0].copy())

    def drawn(row: int, column: int) -> torch.Tensor:
        top, left = 44 + 138 * row, 10 + 138 * column
        return sheet[top : top + 128, left : left + 128][2::4, 2::4]  # each pixel is drawn as 4x4

    found = [next(i for i in range(3) if torch.equal(drawn(row, 0), images[i, 0])) for row in range(3)]
    assert sorted(found) == [0, 1, 2]
    for row, i in enumerate(found):
        image = images[i : i + 1]
        assert torch.equal(drawn(row, 1), perturb(image, "svd", torch.Generator())[0, 0])
        assert torch.equal(drawn(row, 3), perturb(image, "gaussian-blur", torch.Generator())[0, 0])
        assert torch.equal(drawn(row, 7), brightness(image, 1.8)[0, 0])


def test_perturb_brings_pictures_of_any_size_to_the_models(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for side in (40, 64):
        Image.new("L", (side, side), side).save(f"mine/{side}.png")
    assert main(["perturb", "--id", "mine"]) == 2
    assert "differ in size" in capsys.readouterr().err
    assert main(["perturb", "--id", "mine", "--resize"]) == 0
    np.savez("same.npz", images=np.stack([np.full((32, 32), side, np.uint8) for side in (40, 64)]))
    assert main(["perturb", "--id", "same.npz", "--out", "same.png"]) == 0
    assert Path("perturbations.png").read_bytes() == Path("same.png").read_bytes()


def test_perturb_into_no_folder_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["perturb", "--out", "none/sheet.png"]) == 2
    assert capsys.readouterr().err.startswith("oodkit: cannot write none/sheet.png")


FAULTS = """
import resource, torch, oodkit
from oodkit.cli import main
main(["list"])
model = oodkit.create_model("vae", (1, 32, 32), device="cpu", width=4, latent=4)
images = torch.randint(256, (256, 1, 32, 32), dtype=torch.uint8)
detector = oodkit.create_detector("elbo", model).fit(images)
detector.score(images)
fetched = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    detector.score(images)
    fetched.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(fetched))  # how much of the memory is fetched only once depends on where it happens to lie
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc lets itself be told"
)
def test_commands_keep_freed_memory_instead_of_fetching_it_page_by_page():
    """The logits of 256 images are 65,536 pages; many of them are fetched anew where glibc decides."""
    thresholds = {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "131072"}
    kept, told = (int(python("-c", FAULTS, **env).stdout.splitlines()[-1]) for env in ({}, thresholds))
    assert kept < 1_000
    assert told > 10_000, "what the environment says counts"


def test_no_image_at_a_time_is_a_mistake(tiny_vae, capsys):
    fit = "fit --detector elbo --model-file vae.oodkit --id id.npz --out elbo.oodkit"
    assert main(fit.split()) == 0
    capsys.readouterr()
    for command in (fit, "score id.npz --detector-file elbo.oodkit"):
        assert main([*command.split(), "--batch-size", "0"]) == 2
        assert "batch_size is 0" in sentence(capsys)
