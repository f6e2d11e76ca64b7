"""What a program gives where another thing is expected: one sentence, never a traceback of ours."""

import numpy as np
import pytest
import torch
from torch import nn

import oodkit
from oodkit import ArtifactError, ImageError, OptionError, PluginError

IMAGES = torch.randint(256, (12, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def vae(**options):
    return oodkit.create_model("vae", (1, 32, 32), device="cpu", width=2, latent=3, **options)


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))

    def log_prob(self, x):
        return -(x - self.level).square().flatten(1).sum(1)


@pytest.mark.parametrize("thing", [nn.Linear(3, 3), "vae"])
def test_what_is_no_model_is_refused(thing):
    with pytest.raises(PluginError, match=r"is no model of oodkit; oodkit.adapt\(module"):
        oodkit.create_detector("elbo", thing)


def test_arguments_that_were_exchanged():
    with pytest.raises(oodkit.UnknownNameError, match="no detector is called"):
        oodkit.create_detector(vae(), "elbo")


def test_training_takes_what_fit_takes_and_no_bare_module():
    with pytest.raises(PluginError, match="Flat is no model of oodkit"):
        oodkit.train_model(Flat(), IMAGES)
    of_tensor, of_array = (
        oodkit.train_model("vae", images, device="cpu", width=2, latent=3, epochs=1)
        for images in (IMAGES, IMAGES.numpy())
    )
    for one, other in zip(of_tensor.parameters(), of_array.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_adapt_takes_modules_whose_log_prob_is_a_float():
    with pytest.raises(OptionError, match=r"adapt takes a torch\.nn\.Module, not int"):
        oodkit.adapt(3, log_prob="log_prob", image_shape=(1, 8, 8))
    with pytest.raises(PluginError, match=r"log_prob gave torch\.int64; it must return floating-point"):
        oodkit.adapt(Flat(), log_prob=lambda module, x: module.log_prob(x).long(), image_shape=(1, 8, 8))


def test_a_detector_that_has_its_model_takes_no_other(tmp_path):
    oodkit.create_detector("elbo", vae()).fit(IMAGES).save(tmp_path / "elbo.oodkit")
    with pytest.raises(ArtifactError, match="holds its own model, vae; leave the other model out"):
        oodkit.load_detector(tmp_path / "elbo.oodkit", "cpu", model=vae())
    own = oodkit.adapt(Flat(), log_prob="log_prob", image_shape=(1, 32, 32))
    oodkit.create_detector("nll", own).fit(IMAGES).save(tmp_path / "own.oodkit")
    with pytest.raises(PluginError, match="Flat is no model of oodkit"):
        oodkit.load_detector(tmp_path / "own.oodkit", "cpu", model=Flat())


@pytest.mark.parametrize("alpha", [0, 1, 2, -0.1, "x", None])
def test_a_rate_that_is_none_is_refused_when_it_is_set(alpha):
    detector = oodkit.create_detector("complexity").fit(IMAGES).calibrate(IMAGES)
    before = detector.alpha, detector.threshold
    with pytest.raises(OptionError, match="alpha is"):
        detector.alpha = alpha
    assert (detector.alpha, detector.threshold) == before


def test_p_values_may_be_a_list():
    assert oodkit.benjamini_hochberg([0.01, 0.9, 0.02]).tolist() == [True, False, True]


def test_shares_are_not_rounded_to_black():
    from oodkit.sklearn import OODEstimator

    rows = np.random.default_rng(0).random((20, 64))
    with pytest.raises(ImageError, match=r"give value_range=\(0, 1\)"):
        OODEstimator("complexity", None, image_shape=(1, 8, 8)).fit(rows)
    OODEstimator("complexity", None, image_shape=(1, 8, 8), value_range=(0, 1)).fit(rows)


@pytest.mark.parametrize(
    "wrong", [{"limit": 2.5}, {"limit": "3"}, {"image_shape": (1, 16.0, 16)}, {"image_shape": (1, 16)}]
)
def test_numbers_of_another_kind_are_refused(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        oodkit.load_images(IMAGES.numpy(), **wrong)
    assert oodkit.load_images(IMAGES.numpy(), image_shape=[1, 16, 16]).image_shape == (1, 16, 16)
