"""The two likelihood baselines: what they are of the model, and that every image has its own."""

import pytest
import torch
from torch import nn

from oodkit import (
    GenerativeModel,
    ModelOptions,
    NotFittedError,
    OptionError,
    PluginError,
    TrainingError,
    create_detector,
    create_model,
    load_detector,
)


def random_images(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, 1, 32, 32), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def vae():
    """A small VAE whose q(z|x) depends on x and is wide enough for samples to differ."""
    small = create_model("vae", (1, 32, 32), width=3, latent=4, device="cpu").eval()
    with torch.no_grad():
        for weight in small.parameters():
            weight.mul_(8 if weight.ndim == 4 else 1)
    return small


class Pixels(GenerativeModel):
    """Each sub-pixel by itself: log p(x) = −‖x/255 − centre‖². The density is exact: there is nothing to sample."""

    def __init__(self):
        super().__init__((1, 32, 32), ModelOptions())
        self.centre = nn.Parameter(torch.zeros(32, 32))

    def log_prob(self, images):
        return -(images.to(self.dtype) / 255 - self.centre).square().flatten(1).sum(1)


@pytest.mark.parametrize("samples", [1, 7])
def test_nll_is_minus_the_importance_weighted_estimate(vae, samples):
    images = random_images(6)
    with torch.no_grad():
        expected = -vae.log_likelihood(images, samples=samples, seed=3)
    torch.testing.assert_close(create_detector("nll", vae, samples=samples, seed=3).fit(images).score(images), expected)


def test_nll_takes_twenty_samples_of_seed_0(vae):
    images = random_images(3)
    with torch.no_grad():
        expected = -vae.log_likelihood(images, samples=20, seed=0)
    torch.testing.assert_close(create_detector("nll", vae).fit(images).score(images), expected)


def test_elbo_is_minus_log_prob(vae):
    images = random_images(6)
    with torch.no_grad():
        expected = -vae.log_prob(images)
    torch.testing.assert_close(create_detector("elbo", vae).fit(images).score(images), expected)


def test_where_the_density_is_exact_both_are_the_same(vae):
    images = random_images(6)
    nll, elbo = (create_detector(name, Pixels()).fit(images).score(images) for name in ("nll", "elbo"))
    assert torch.equal(nll, elbo)
    torch.testing.assert_close(nll, (images / 255).square().sum((1, 2, 3)))


@pytest.mark.parametrize("name", ["nll", "elbo"])
def test_an_image_less_likely_scores_higher(name):
    images = torch.stack([torch.full((1, 32, 32), value, dtype=torch.uint8) for value in (200, 3, 90)])
    assert create_detector(name, Pixels()).fit(images).score(images).argsort().tolist() == [1, 2, 0]


@pytest.mark.parametrize("name", ["nll", "elbo"])
def test_alone_in_any_company_and_after_loading(vae, tmp_path, name):
    images = random_images(7)
    detector = create_detector(name, vae, batch_size=3).fit(images)
    together = detector.score(images)
    # the values are thousands of nats, in float32
    torch.testing.assert_close(torch.cat([detector.score(image[None]) for image in images]), together)
    torch.testing.assert_close(detector.score(images.flip(0)).flip(0), together)
    detector.save(tmp_path / "detector.oodkit")
    torch.testing.assert_close(load_detector(tmp_path / "detector.oodkit", device="cpu").score(images), together)


def test_the_noise_is_the_seed_s(vae):
    images = random_images(4)
    scores = [create_detector("nll", vae, samples=2, seed=seed).fit(images).score(images) for seed in (0, 0, 1)]
    assert torch.equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).all()


def test_more_samples_make_an_image_likelier_on_average(vae):
    images = random_images(12)
    few, many = (create_detector("nll", vae, samples=k).fit(images).score(images).mean() for k in (1, 12))
    assert many < few


def test_a_score_that_is_not_a_number_is_the_most_ood():
    class Broken(Pixels):
        def log_prob(self, images):
            return super().log_prob(images).where(images[:, 0, 0, 0] != 7, torch.nan)

    images = torch.zeros(3, 1, 32, 32, dtype=torch.uint8)
    images[1, 0, 0, 0] = 7
    detector = create_detector("elbo", Broken()).fit(images)
    with pytest.warns(UserWarning, match=r"elbo: 1 of 3 scores are NaN; taken as \+inf"):
        assert detector.score(images).tolist() == [0.0, torch.inf, 0.0]


@pytest.mark.parametrize("name", ["nll", "elbo"])
def test_refusals(name, vae):
    with pytest.raises(PluginError, match=f"{name} needs a model"):
        create_detector(name)
    with pytest.raises(NotFittedError, match=rf"{name} is not fitted; call fit\(images\)"):
        create_detector(name, vae).score(random_images(1))
    model = Pixels()
    model.centre.data[0, 0] = torch.inf
    with pytest.raises(TrainingError, match="centre holds NaN or infinity"):
        create_detector(name, model).fit(random_images(1))


def test_options_are_checked(vae):
    with pytest.raises(OptionError, match=r"nll\.samples = 0"):
        create_detector("nll", vae, samples=0)
    with pytest.raises(OptionError, match="elbo has no option 'samples'"):
        create_detector("elbo", vae, samples=5)
