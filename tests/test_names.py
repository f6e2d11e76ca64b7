"""How images are called by `oodkit score` and `oodkit explain`, and which of a folder's files are images."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodkit.cli import main

pytest_plugins = ["bench_fixtures"]


def test_a_folder_is_scored_of_the_files_that_it_is_loaded_from(stub, sets, capsys):
    """macOS puts a file of notes beside each picture, under a picture's name."""
    assert main("fit --detector light --id id.npz --out light.oodkit".split()) == 0
    for name in ("a.png", "b/c.png", "._a.png", "__MACOSX/a.png", ".cache/a.png"):
        (sets / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        if name.startswith(("a", "b")):
            Image.new("L", (32, 32), 9).save(sets / "pictures" / name)
        else:
            (sets / "pictures" / name).write_bytes(b"notes")
    capsys.readouterr()
    assert main("score pictures --detector-file light.oodkit".split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["path,score", "pictures/a.png,9.0", "pictures/b/c.png,9.0"]


def explained(command, capsys):
    """What `oodkit explain … --json` prints, its exit code and its remarks."""
    code = main([*command.split(), "--detector-file", "light.oodkit", "--json"])
    out, err = capsys.readouterr()
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["images"], code, err


@pytest.fixture
def light(stub, sets, capsys):
    """A folder with light.oodkit, p/00.png … p/04.png, q/00.png, and shades.npy: image i has the value i."""
    assert main("fit --detector light --id id.npz --out light.oodkit".split()) == 0
    for i, name in enumerate(["p/00", "p/01", "p/02", "p/03", "p/04", "q/00"]):
        (sets / name).parent.mkdir(exist_ok=True)
        Image.new("L", (32, 32), i).save(sets / f"{name}.png")
    np.save("shades.npy", np.arange(40, dtype=np.uint8)[:, None, None].repeat(32, 1).repeat(32, 2))
    capsys.readouterr()
    return sets


@pytest.mark.usefixtures("light")
def test_explain_calls_images_as_score_does(capsys):
    images, code, _ = explained("explain p --limit 3", capsys)
    assert code == 0 and len(images) == 3
    assert [one["image"] for one in images] == [f"p/{one['score']:02.0f}.png" for one in images]
    images, _, _ = explained("explain shades.npy --limit 3", capsys)
    assert [one["image"] for one in images] == [f"shades.npy[{one['score']:.0f}]" for one in images]
    assert [one["score"] for one in images] != [0, 1, 2], "a draw, that the places must not be numbered anew in"


@pytest.mark.usefixtures("light")
def test_every_image_has_a_map_of_its_own(capsys):
    images, _, _ = explained("explain p/00.png q/00.png shades.npy --limit 2 --patch 16 --out maps", capsys)
    files = [Path(one["map"]) for one in images]
    assert len(set(files)) == 4 and all(file.is_file() for file in files)
    shade = [np.asarray(Image.open(file))[0, 0, 0] for file in files]  # the picture is beside its map
    assert shade == [one["score"] for one in images]


def test_pictures_that_cannot_be_read_are_named_and_give_1(light, capsys):
    (light / "p" / "02.png").write_text("no picture")
    images, code, err = explained("explain p", capsys)
    assert (len(images), code) == (4, 1)
    assert "oodkit: 02.png: skipped" in err
    assert main("perturb --id p --out sheet.png".split()) == 1
    assert "oodkit: 02.png: skipped" in capsys.readouterr().err


@pytest.mark.usefixtures("light")
def test_infinite_scores_are_json_in_explain_as_in_score(capsys):
    assert main("fit --detector undefined --id id.npz --out light.oodkit".split()) == 0
    capsys.readouterr()
    images, _, _ = explained("explain q/00.png", capsys)
    assert [one["score"] for one in images] == ["inf"]
    assert main("score q/00.png --detector-file light.oodkit --json".split()) == 0
    assert json.loads(capsys.readouterr().out)["scores"][0]["score"] == "inf"


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_no_numbers_are_refused(number, capsys):
    assert main(["explain", "q/00.png", "--detector-file", "light.oodkit", f"--top={number}"]) == 2
    assert "at least 1" in capsys.readouterr().err
