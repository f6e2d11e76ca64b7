"""Why a score is high: the numbers behind it, the map over the picture, and the command that shows both."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import oodkit
from oodkit import OptionError, PluginError
from oodkit.cli import main
from oodkit.explanation import draw_map, occlusion_map
from oodkit.testing import blobs, noise
from oodkit.testing.inputs import small_vae

SHAPE = (3, 8, 12)


class Dark(oodkit.GenerativeModel):
    """log p(x) = −(sum of the values): the brighter, the more OOD."""

    def __init__(self):
        super().__init__(SHAPE, oodkit.ModelOptions())
        self.level = nn.Parameter(torch.tensor(1.0))

    def log_prob(self, images):
        return -self.level * images.flatten(1).float().sum(1)


def image():
    return torch.randint(256, SHAPE, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_the_map_is_what_covering_takes_away(patch):
    detector, x = oodkit.create_detector("elbo", Dark(), device="cpu").fit(image()[None]), image()
    heat = occlusion_map(detector, x, patch)
    pixels = x.numpy().astype(int)
    for row in range(SHAPE[1] // patch):
        for column in range(SHAPE[2] // patch):
            inside = {(row * patch + i, column * patch + j) for i in range(patch) for j in range(patch)}
            near = {
                (i, j)
                for i in range(SHAPE[1])
                for j in range(SHAPE[2])
                if min(abs(i - a) for a, _ in inside) <= patch and min(abs(j - b) for _, b in inside) <= patch
            } - inside
            fall = 0
            for channel in pixels:
                around = sorted(channel[place] for place in near)
                cover = around[(len(around) - 1) // 2]  # torch's median: the lower of two
                fall += sum(channel[place] - cover for place in inside)
            assert heat[row, column].item() == fall


def test_a_patch_that_does_not_divide_the_image_is_refused():
    detector = oodkit.create_detector("elbo", Dark(), device="cpu").fit(image()[None])
    with pytest.raises(OptionError, match="must divide 8x12"):
        occlusion_map(detector, image(), 5)


def test_the_drawing_is_red_where_the_score_falls_and_blue_where_it_rises():
    grey = torch.full((1, 8, 8), 128, dtype=torch.uint8)
    heat = torch.zeros(4, 4)
    heat[0, 0], heat[3, 3] = 5, -5
    drawn = np.asarray(draw_map(grey, heat, side=64)).astype(int)
    assert drawn.shape == (64, 64 + 8 + 64, 3)
    assert (drawn[:, :64] == 128).all()
    under = drawn[:, 72:]
    red, green, blue = under[2, 2]
    assert red > green + 80 and red > blue + 80
    red, green, blue = under[-3, -3]
    assert blue > red + 80 and blue > green + 80
    assert (under[30:34, 30:34] == 128).all()


@pytest.mark.parametrize("name", ["rose-ekfac", "rose-plus", "statistics-density", "score-test", "complexity"])
def test_the_numbers_are_the_score_s(name):
    sums = {"density": "mahalanobis"} if name in ("rose-plus", "statistics-density") else {}
    detector = oodkit.create_detector(name, small_vae(), device="cpu", batch_size=5, **sums).fit(blobs(96, seed=2))
    images = torch.cat([blobs(9, seed=3).images, noise(2).images])
    scores, explanation = detector.score(images), detector.explain(images)
    assert explanation.z.shape == (11, len(explanation.names))
    if name == "rose-ekfac":  # the largest normalised layer is the score
        torch.testing.assert_close(explanation.z.amax(1).float(), scores, rtol=1e-3, atol=1e-3)
    else:
        torch.testing.assert_close(explanation.contributions.sum(1).float(), scores, rtol=1e-3, atol=1e-3)
    farthest = explanation.z.abs().amax(1)
    assert farthest[9:].min() > farthest[:9].median()


def test_a_score_that_is_one_number_says_so():
    with pytest.raises(PluginError, match="no numbers behind its score"):
        oodkit.create_detector("elbo", Dark(), device="cpu").fit(image()[None]).explain(image()[None])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with spots.png, held.npz, plain.oodkit, and calibrated.oodkit, calibrated on 30 images."""
    folder = tmp_path_factory.mktemp("explain")
    detector = oodkit.create_detector("statistics-density", small_vae(), device="cpu").fit(blobs(96, seed=2))
    detector.save(folder / "plain.oodkit")
    detector.calibrate(blobs(39, seed=7)).save(folder / "calibrated.oodkit")
    np.savez(folder / "new.npz", images=torch.cat([blobs(3, seed=8).images, noise(2).images]).numpy())
    Image.fromarray(noise(1).images[0, 0].numpy()).save(folder / "noise.png")
    return folder


def test_explain_prints_numbers_and_writes_maps(fitted, monkeypatch, capsys):
    monkeypatch.chdir(fitted)
    assert main("explain noise.png --detector-file plain.oodkit --out maps --patch 8 --top 3".split()) == 0
    out = capsys.readouterr().out
    assert "noise.png: score" in out and "share of the score" in out and "maps/noise-0.png" in out
    with Image.open("maps/noise-0.png") as drawn:
        assert drawn.size == (256 + 8 + 256, 256)
    assert main("explain new.npz --detector-file plain.oodkit --json".split()) == 0
    images = json.loads(capsys.readouterr().out)["images"]
    assert [document["image"] for document in images] == [f"new.npz[{i}]" for i in range(5)]
    shares = [number["share"] for number in images[4]["numbers"]]
    assert shares == sorted(shares, reverse=True) and sum(shares) <= 1 + 1e-6


def test_explain_makes_no_folder_with_a_picture_s_name(fitted, monkeypatch, capsys):
    monkeypatch.chdir(fitted)
    assert main("explain noise.png --detector-file plain.oodkit --out drawn/map.png".split()) == 2
    assert capsys.readouterr().err == (
        "oodkit: --out drawn/map.png must be a folder: it gets a PNG for each image; write --out drawn/map/.\n"
    )
    assert not (fitted / "drawn").exists()


def test_explain_refuses_pictures_of_another_size_but_for_resize(fitted, monkeypatch, capsys):
    monkeypatch.chdir(fitted)
    with Image.open("noise.png") as picture:
        picture.resize((64, 64), Image.Resampling.NEAREST).save("large.png")
    assert main("explain large.png --detector-file plain.oodkit".split()) == 2
    assert "--resize (resize=True): bilinear 64x64 -> 32x32" in capsys.readouterr().err
    assert main("explain large.png --detector-file plain.oodkit --resize --json".split()) == 0
    (document,) = json.loads(capsys.readouterr().out)["images"]
    expected = oodkit.load_detector("plain.oodkit", "cpu").score(
        oodkit.load_images("large.png", image_shape=(1, 32, 32))
    )
    assert document["score"] == pytest.approx(float(expected))


def test_score_adds_p_values_where_there_are_some(fitted, monkeypatch, capsys):
    monkeypatch.chdir(fitted)
    assert main("score new.npz --detector-file calibrated.oodkit --alpha 0.1".split()) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["ood"] for row in rows[3:]] == ["True", "True"]
    assert float(rows[4]["p_value"]) == pytest.approx(1 / 40)
    assert all((float(row["p_value"]) <= 0.1) == (row["ood"] == "True") for row in rows)
    assert main("score new.npz --detector-file plain.oodkit --alpha 0.1".split()) == 2
    assert "oodkit fit --calibration" in capsys.readouterr().err


def test_fit_calibrates(fitted, monkeypatch, capsys):
    monkeypatch.chdir(fitted)
    small_vae().save("vae.oodkit")
    np.savez("train.npz", images=blobs(60, seed=2).images.numpy())
    command = "fit --detector elbo --model-file vae.oodkit --id train.npz --calibration new.npz --out elbo.oodkit"
    assert main(command.split()) == 0
    assert "calibrated on 5 of new.npz" in capsys.readouterr().err
    assert oodkit.load_detector("elbo.oodkit", device="cpu").calibrated
