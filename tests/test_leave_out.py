"""Leave-one-class-out, and the controls that the ID test images are made into."""

import numpy as np
import pytest
import torch

from oodkit import ImageError, OptionError, load_images
from oodkit.bench.plan import make_plan
from oodkit.bench.sets import SeededSets
from oodkit.bench.spec import read_spec


@pytest.fixture
def labelled(tmp_path, monkeypatch):
    """id.npz in the current folder: the label of an image is the value of all of its pixels."""
    labels = np.repeat(np.arange(4), 30)
    np.savez(tmp_path / "id.npz", images=np.repeat(labels, 1024).reshape(-1, 32, 32).astype(np.uint8), labels=labels)
    monkeypatch.chdir(tmp_path)


def sets_of(seed=0, **fields):
    plan = make_plan(read_spec(**{"detectors": "elbo", "id": "id.npz", "seeds": [seed], **fields}))
    return SeededSets(plan, None)[seed]


def values(images):
    return set(images.images.flatten().tolist())


def test_the_class_is_in_the_ood_set_and_nowhere_else(labelled):
    found = sets_of(ood="leave-out:2,leave-out:0,noise", train_limit=20, limit=5)
    assert values(found.train) == {1, 3} and values(found.test) <= {1, 3}
    assert values(found.ood["leave-out:2"]) == {2} and values(found.ood["leave-out:0"]) == {0}
    assert len(found.train) == 20 and len(found.test) == 5 and len(found.ood["leave-out:2"]) == 5
    assert "class 2 alone" in found.ood["leave-out:2"].steps and "without class 2, 0" in found.train.steps


def test_of_a_named_set(labelled):
    found = sets_of(id="digits", ood="leave-out:7")
    assert set(found.train.labels.tolist()) == set(found.test.labels.tolist()) == set(range(10)) - {7}
    whole = load_images("digits", "test")
    assert torch.equal(found.ood["leave-out:7"].images, whole.images[whole.labels == 7])


def test_mistakes_are_one_sentence(labelled, tmp_path):
    with pytest.raises(OptionError, match="by its number, as in leave-out:3"):
        sets_of(ood="leave-out:cat")
    with pytest.raises(ImageError, match="no class 9; it has 0, 1, 2, 3"):
        sets_of(ood="leave-out:9")
    with pytest.raises(ImageError, match="no class is left"):
        sets_of(ood="leave-out:0,leave-out:1,leave-out:2,leave-out:3")
    np.savez(tmp_path / "plain.npz", images=np.zeros((60, 32, 32), np.uint8))
    with pytest.raises(ImageError, match=r"plain.npz has no labels"):
        sets_of(id="plain.npz", ood="leave-out:0")


def test_controls_change_what_they_say(tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = load_images(torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=generator))
    assert torch.equal(load_images("mirrored", reference=images).images, images.images.flip(3))
    jpeg = load_images("jpeg", reference=images).images
    difference = (jpeg.int() - images.images.int()).abs().float().mean()
    assert 1 < difference < 80  # noise does not survive JPEG, but its brightness does
    assert (jpeg.float().mean((2, 3)) - images.images.float().mean((2, 3))).abs().max() < 8
