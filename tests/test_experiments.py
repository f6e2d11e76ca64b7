"""What the benchmark knows beside single runs: spec files of several runs, sweeps, controls, sets that are missing."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oodkit import create_detector, load_detector, load_images, load_model, train_model
from oodkit.bench.plan import make_plan
from oodkit.bench.report.page import as_html
from oodkit.bench.report.runs import read_runs
from oodkit.bench.runner import run_bench
from oodkit.bench.sets import SeededSets
from oodkit.bench.spec import read_spec, read_specs
from oodkit.bench.store import RunFolder
from oodkit.bench.work import DetectorWork, SeedWork
from oodkit.errors import DataNotFoundError, ImageError, OptionError
from oodkit.perturbations import brightness

pytest_plugins = ["bench_fixtures"]
pytestmark = pytest.mark.usefixtures("stub", "sets")

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SPEC = """
detectors = "brightness"
id = "id.npz"
ood = "bright.npz"
[options.brightness]
scale = 2.0
[[run]]
[[run]]
ood = "mixed.npz"
limit = 7
[run.options.brightness]
weights = [1.0]
"""


def spec(**fields):
    return read_spec(**{"detectors": "brightness", "id": "id.npz", "ood": "bright.npz", "baseline": False, **fields})


def ood_of(**fields):
    return SeededSets(make_plan(spec(**fields)), None)[0].ood


# --- several runs in one file -------------------------------------------------------------------------------------


def test_each_run_changes_what_it_names(sets):
    (sets / "runs.toml").write_text(SPEC)
    first, second = read_specs("runs.toml", limit=9)
    assert (first.ood, second.ood) == (("bright.npz",), ("mixed.npz",))
    assert first.options == {"brightness": {"scale": 2.0}}
    assert second.options == {"brightness": {"scale": 2.0, "weights": [1.0]}}
    assert first.limit == second.limit == 9  # a flag wins over both


@pytest.mark.parametrize("text", ["run = 3", "run = []", "run = [3]", "[[run]]\n[[run]]"])
def test_a_file_of_another_form_is_refused(sets, text):
    (sets / "runs.toml").write_text(text)
    with pytest.raises(OptionError, match=r"\[\[run\]\]|holds 2 runs"):
        read_spec("runs.toml")


# --- sets that are made from others -------------------------------------------------------------------------------


def test_brightness_multiplies_the_pixels_of_the_model_s_images():
    made = ood_of(ood="bright.npz,bright.npz*0.4,bright.npz*1.8")
    plain = made["bright.npz"].images
    for factor in (0.4, 1.8):
        images = made[f"bright.npz*{factor}"]
        torch.testing.assert_close(images.images, brightness(plain, factor))
        assert images.steps[-1] == f"brightness x{factor}"
    assert made["bright.npz*1.8"].images.max() == 255


def test_a_file_whose_name_looks_like_a_brightness_is_a_file(sets):
    (sets / "a*0.5").mkdir()
    (sets / "a*0.5" / "bright.npz").write_bytes((sets / "bright.npz").read_bytes())
    plain, odd = ood_of(ood="bright.npz,a*0.5/bright.npz").values()
    torch.testing.assert_close(odd.images, plain.images)


def test_resized_takes_the_id_images_through_the_other_set_s_chain(sets):
    colours = np.random.default_rng(0).integers(0, 256, size=(20, 32, 32, 3), dtype=np.uint8)
    np.savez(sets / "colour.npz", images=colours)
    np.savez(sets / "small.npz", images=np.zeros((5, 8, 8), np.uint8))
    sets = SeededSets(make_plan(spec(id="colour.npz", ood="resized:small.npz,bright.npz", resize=True)), None)[0]
    made = sets.ood["resized:small.npz"]
    there = load_images(sets.test, image_shape=(1, 8, 8))
    torch.testing.assert_close(made.images, load_images(there, image_shape=(3, 32, 32)).images)
    assert "bilinear 32x32 -> 8x8" in made.steps and "bilinear 8x8 -> 32x32" in made.steps


@pytest.mark.parametrize("quality", [30, 75, 91])
def test_recompressed_adds_the_other_set_s_compression(sets, quality):
    (sets / "jpegs").mkdir()
    for name, level in (("a", 90), ("b", 200)):
        Image.new("L", (16, 16), level).save(sets / "jpegs" / f"{name}.jpg", quality=quality)
    made = SeededSets(make_plan(spec(ood="recompressed:jpegs,resized:jpegs", resize=True)), None)[0]
    small = load_images(made.test, image_shape=(1, 16, 16)).images
    back = []
    for image in small:  # one at a time, through a file
        Image.fromarray(image[0].numpy()).save(sets / "one.jpg", quality=quality)
        back.append(torch.from_numpy(np.array(Image.open(sets / "one.jpg")))[None])
    expected = load_images(torch.stack(back), image_shape=(1, 32, 32)).images
    assert torch.equal(made.ood["recompressed:jpegs"].images, expected)
    assert not torch.equal(made.ood["resized:jpegs"].images, expected)
    assert made.ood["recompressed:jpegs"].steps[-3:] == (
        "bilinear 32x32 -> 16x16",
        f"JPEG of quality {quality}",
        "bilinear 16x16 -> 32x32",
    )
    assert made.ood["recompressed:jpegs"].name == "recompressed:jpegs"


def test_recompressed_needs_jpeg_files_of_one_quality(sets):
    with pytest.raises(ImageError, match=r"not JPEG files of one quality; choose resized:bright\.npz"):
        ood_of(ood="recompressed:bright.npz")
    (sets / "many").mkdir()
    for quality in (50, 90):
        Image.new("L", (32, 32)).save(sets / "many" / f"{quality}.jpg", quality=quality)
    with pytest.raises(ImageError, match="of one quality"):
        ood_of(ood="recompressed:many")


def test_resized_needs_one_size(sets):
    (sets / "many").mkdir()
    for side in (9, 12):
        Image.new("L", (side, side)).save(sets / "many" / f"{side}.png")
    with pytest.raises(ImageError, match="various sizes"):
        ood_of(ood="resized:many")


# --- what is missing ----------------------------------------------------------------------------------------------


def test_missing_sets_are_left_out_where_that_is_asked_for(sets, monkeypatch):
    monkeypatch.setenv("OODKIT_DATA", str(sets))
    with pytest.raises(DataNotFoundError, match="svhn"):
        run_bench(spec(ood="bright.npz,svhn"))
    result = run_bench(spec(ood="bright.npz,svhn,svhn*0.4", skip_missing=True))
    assert [cell.ood for cell in result.cells] == ["bright.npz"]
    assert list(result.missing) == ["svhn", "svhn*0.4"]
    file = sets / "runs" / "id" / "missing.json"
    assert "is not on this machine" in json.loads(file.read_text())["svhn"]
    np.savez(sets / "svhn-test.npz", images=np.zeros((4, 32, 32, 3), dtype=np.uint8))
    run_bench(spec(ood="bright.npz,svhn", skip_missing=True))
    assert list(json.loads(file.read_text())) == ["svhn*0.4"]  # what came is no longer missing
    with pytest.raises(DataNotFoundError, match="none of the OOD sets"):
        run_bench(spec(ood="celeba", skip_missing=True))


# --- what a hash depends on ---------------------------------------------------------------------------------------


def test_with_a_model_seed_the_seeds_share_a_model():
    fields = {"detectors": "elbo", "model": "flat", "seeds": "0,1", "epochs": 1, "train_limit": 20, "limit": 5}
    apart = run_bench(spec(**fields))
    shared = run_bench(spec(**fields, model_seed=0))
    assert len({cell.hashes["model"] for cell in apart.cells}) == 2
    assert {cell.hashes["model"] for cell in shared.cells} == {apart.cells[0].hashes["model"]}
    assert len({cell.hashes["detector"] for cell in shared.cells}) == 2


def test_another_version_of_outside_software_makes_scores_anew(stub, monkeypatch):
    first = run_bench(spec())
    assert run_bench(spec()).reused == 1
    monkeypatch.setattr(stub.Brightness, "versions", classmethod(lambda cls, options: {"lamp": str(options.scale)}))
    again = run_bench(spec())
    assert again.reused == 0
    assert again.cells[0].versions["lamp"] == "1.0"
    assert again.cells[0].hashes["id_scores"] != first.cells[0].hashes["id_scores"]


def test_another_kind_of_device_fits_anew():
    plan = make_plan(spec())
    sets = SeededSets(plan, None)[0]
    made = [
        SeedWork(plan, RunFolder(plan.run_folder), torch.device(name), 0, sets, None, print) for name in ("cpu", "cuda")
    ]
    assert made[0].key == made[1].key  # a model may be trained anywhere
    here, there = (DetectorWork(plan.detectors[0], shared) for shared in made)
    assert here.key != there.key and here.cell_key("bright.npz") != there.cell_key("bright.npz")


def test_what_a_kill_left_beside_a_finished_model_is_removed(sets):
    fields = {"detectors": "elbo", "model": "flat", "epochs": 1, "train_limit": 20, "limit": 5}
    key = run_bench(spec(**fields)).cells[0].hashes["model"]
    left = sets / "runs" / "id" / "models" / f"{key}.checkpoint"
    left.write_bytes(b"of a kill between the model and this")
    assert run_bench(spec(**fields, seeds="0,1", model_seed=0)).reused == 1  # another seed's cells need the model
    assert not left.exists()


def test_a_detector_keeps_the_record_of_its_own_training(tmp_path):
    images = load_images("noise", limit=20)
    model = train_model("vae", images, epochs=0, width=2, latent=2)
    detector = create_detector("lratio-random", model, epochs=1, samples=1).fit(images)
    detector.save(tmp_path / "detector.oodkit")
    record = load_detector(tmp_path / "detector.oodkit").training_record
    assert (record["hash"], record["recipe"]["epochs"], len(record["losses"])) == (images.hash, 1, 1)


# --- the extremes -------------------------------------------------------------------------------------------------


def test_the_images_of_extreme_scores_are_kept():
    result = run_bench(spec())
    images = SeededSets(result.plan, None)[0].test.images
    levels = images.float().flatten(1).mean(1)
    with RunFolder(result.plan.run_folder) as folder:
        scores = folder.scores(result.cells[0].hashes["id_scores"])
    torch.testing.assert_close(scores.lowest[0], images[levels.argmin()])
    torch.testing.assert_close(scores.highest[0], images[levels.argmax()])
    assert len(scores.lowest) == len(scores.highest) == 6


def test_beside_the_extremes_stands_what_the_model_makes_of_them(sets):
    fields = {"model": "vae", "epochs": 1, "train_limit": 20, "limit": 8, "options": {"vae": {"width": 2, "latent": 2}}}
    result = run_bench(spec(detectors="elbo,brightness", **fields))
    model = load_model(sets / "runs" / "id" / "models" / f"{result.cells[0].hashes['model']}.safetensors")
    with RunFolder(result.plan.run_folder) as folder:
        of_elbo, of_brightness = (folder.scores(cell.hashes["ood_scores"]) for cell in result.cells)
    torch.testing.assert_close(of_elbo.lowest_reconstructed, model.reconstruct(of_elbo.lowest))
    torch.testing.assert_close(of_elbo.highest_reconstructed, model.reconstruct(of_elbo.highest))
    assert of_brightness.highest_reconstructed is None  # it looks through no model
    page = as_html(read_runs([result.plan.run_folder]))
    pictures = re.findall(r'style="height: (\d+)px" src="data:image/png;base64,([^"]+)"', page)
    sizes = [Image.open(io.BytesIO(base64.b64decode(data))).size for _, data in pictures]
    assert sizes == [(6 * 32, 64)] * 4 + [(6 * 32, 32)] * 4
    assert page.count("reconstruction of it") == 1


# --- the paper's ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted((BENCHMARKS / "paper").glob("*.toml")), ids=lambda p: p.name)
def test_every_spec_of_the_paper_makes_a_plan(file):
    for one in read_specs(file):
        make_plan(one)


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="gpu.sh needs bash")


@needs_bash
@pytest.mark.parametrize(
    ("step", "nexts"), [("cifar10-vae", ["0", "1", "2", ""]), ("fashion-mnist-vae", ["0 1 2", ""])]
)
def test_a_gpu_step_makes_every_seed_of_the_paper(tmp_path, step, nexts):
    for expected in nexts:
        command = ["bash", BENCHMARKS / "gpu.sh", "next", step]
        ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RUNS": str(tmp_path)})
        assert ended.stdout.strip() == expected
        for seed in expected.split():  # as the step does at its end
            (tmp_path / step / seed).mkdir(parents=True)
            (tmp_path / step / seed / f"{step}.finished").touch()


@needs_bash
def test_the_gpu_script_names_specs_that_exist_and_refuses_what_it_does_not_know():
    script = BENCHMARKS / "gpu.sh"
    named = re.findall(r"\bspec=([\w-]+)", script.read_text())
    assert named and all((BENCHMARKS / "paper" / f"{name}.toml").exists() for name in named)
    ended = subprocess.run(["bash", script, "run", "fashion"], capture_output=True, text=True)
    assert ended.returncode == 2
    assert "there is no step 'fashion'; there are: conformance throughput" in ended.stderr
