"""ROSE: how layers are calibrated and joined, against formulas written out by hand from the layers' own scores."""

import numpy as np
import pytest
import torch
from torch import nn

from oodkit import (
    GenerativeModel,
    ImageError,
    ImageSet,
    ModelOptions,
    OptionError,
    TrainingError,
    create_detector,
    create_model,
    fit_curvature,
    layer_gradients,
    load_detector,
)
from oodkit_rose.ekfac import Ekfac
from oodkit_rose.ekfac_options import EkfacOptions

LAYERS = ["first", "second", "third"]
SAME = {"calibration": "same", "relative_damping": 0, "damping": 1e-4}


class Net(GenerativeModel):
    """Three layers of a function f of 8x8 images, in float64; log p = −½‖f(x) − 1‖²."""

    def __init__(self):
        super().__init__((1, 8, 8), ModelOptions())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Conv2d(1, 3, 2, stride=2)
            self.second = nn.Conv2d(3, 4, 3, padding=1, bias=False)
            self.third = nn.Linear(64, 2)
        self.double()

    def log_prob(self, images):
        h = self.second(self.first(images.to(self.dtype) / 255).tanh()).tanh()
        return -0.5 * (self.third(h.flatten(1)) - 1).square().sum(1)


def random_images(n, seed, side=8):
    """Return noise under a random brightness, uint8 (n, 1, side, side); the first pixel is the image's number."""
    generator = torch.Generator().manual_seed(seed)
    brightness = torch.rand(n, 1, 1, 1, generator=generator)
    images = (256 * brightness * torch.rand(n, 1, side, side, generator=generator)).to(torch.uint8)
    images[:, 0, 0, 0] = torch.arange(n)
    return images


TRAIN, TEST = random_images(60, 0), random_images(12, 1)


@pytest.fixture(scope="module")
def model():
    return Net()


def scores(model, name="rose-ekfac", **options):
    return create_detector(name, model, **{**SAME, **options}).fit(TRAIN).score(TEST)


@pytest.fixture(scope="module")
def layer_scores(model):
    """S of each layer, (N, 3): F from all of TRAIN; of TRAIN and of TEST."""
    layers = {name: Ekfac(EkfacOptions(damping=SAME["damping"])) for name in LAYERS}
    fit_curvature(model, ImageSet("images", "train", TRAIN), layers, batch_size=60)

    def of(images):
        gradients = layer_gradients(model, images, LAYERS)
        return torch.stack([layers[name].quadratic_form(gradients[name]) for name in LAYERS], 1).numpy()

    return of(TRAIN), of(TEST)


@pytest.fixture(scope="module")
def normalised(layer_scores):
    """ŝ = (S − μ)/σ of TEST, (N, 3): eq. (10)."""
    train, test = layer_scores
    return (test - train.mean(0)) / train.std(0, ddof=1)


def assert_same(actual, expected, tolerance=1e-5):
    """Scores are float32, and differences of like numbers: they agree to a share of their size or their spread."""
    expected = torch.as_tensor(expected).double()
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance * float(expected.std()))


# --- joining the layers (eqs. 10 and 11) -------------------------------------------------------------------------


def test_max_is_the_largest_normalised_score(model, normalised):
    assert_same(scores(model), normalised.max(1))


@pytest.mark.parametrize("p", [1, 2, 3.5])
@pytest.mark.parametrize("shift", [0, 0.7, -0.2])
def test_p_norm_is_equation_11(model, normalised, p, shift):
    expected = (np.maximum(normalised + shift, 0) ** p).sum(1) ** (1 / p)
    assert_same(scores(model, aggregation="p-norm", p=p, shift=shift), expected)


def test_an_infinite_p_is_the_maximum_where_it_is_positive(model):
    largest, norm = scores(model), scores(model, aggregation="p-norm", p="inf")
    assert (largest > 0).any() and (largest < 0).any()
    assert_same(norm, largest.clamp_min(0))


def test_one_layer_alone(model, normalised):
    for index, layer in enumerate(LAYERS):
        assert_same(scores(model, layers=(layer,)), normalised[:, index])


def test_some_layers_in_any_order(model, normalised):
    assert_same(scores(model, layers=("third", "first")), normalised[:, [0, 2]].max(1))


def ledoit_wolf_by_hand(x):
    """Return the covariance shrunk towards a multiple of the identity: Ledoit and Wolf 2004, section 3.2."""
    n, k = x.shape
    x = x - x.mean(0)
    sample = x.T @ x / n
    target = np.trace(sample) / k * np.eye(k)
    distance = ((sample - target) ** 2).sum()
    error = sum(((np.outer(row, row) - sample) ** 2).sum() for row in x) / n**2
    share = min(error / distance, 1)
    return share * target + (1 - share) * sample


def test_mahalanobis_is_of_the_layers_log_scores(model, layer_scores):
    train, test = (np.log(s) for s in layer_scores)
    distance = test - train.mean(0)
    expected = np.einsum("nk,kl,nl->n", distance, np.linalg.inv(ledoit_wolf_by_hand(train)), distance)
    assert_same(scores(model, aggregation="mahalanobis"), expected)


def test_root_takes_the_root_before_the_mean_and_the_spread(model, layer_scores):
    train, test = (np.sqrt(s) for s in layer_scores)
    assert_same(scores(model, root=True), ((test - train.mean(0)) / train.std(0, ddof=1)).max(1))


def test_identity_is_the_gradient_norm_by_autograd(model):
    def squared_norms(images):
        parameters = list(model.first.parameters())
        gradients = [torch.autograd.grad(model.log_prob(image[None]).sum(), parameters) for image in images]
        return np.array([sum(float(g.square().sum()) for g in of_image) for of_image in gradients])

    train, test = squared_norms(TRAIN), squared_norms(TEST)
    found = create_detector("rose-identity", model, calibration="same", layers=("first",)).fit(TRAIN).score(TEST)
    assert_same(found, (test - train.mean()) / train.std(ddof=1))


def test_a_parameter_may_stand_for_a_layer(model):
    """A convolution without bias, by its name and by that of its weight."""
    by_layer = scores(model, "rose-diag", layers=("second",))
    assert_same(scores(model, "rose-diag", layers=("second.weight",)), by_layer)


# --- which images make F, and which μ and σ; a curvature from another package -----------------------------------------

SPY = """
import torch
from oodkit import CurvatureApproximation, CurvatureOptions, CurvatureSpec, hookimpl
from pydantic import Field

class SpyOptions(CurvatureOptions):
    power: float = Field(1.0, description="S = ‖s‖^(2·power).")

class Spy(CurvatureApproximation):
    fitted, scored = [], []

    def sums(self, gradient, number):
        self.fitted.extend(gradient.inputs[:, 0, 0])  # the image's first pixel
        return {"count": torch.tensor(float(len(gradient.inputs)))}

    def end_pass(self, sums, count, number):
        assert count == int(sums["count"])
        return {"count": sums["count"]}

    def quadratic_form(self, gradient):
        self.scored.extend(gradient.inputs[:, 0, 0])
        return gradient.dense().square().sum((1, 2)) ** self.options.power

@hookimpl
def oodkit_curvatures():
    target, options = "oodkit_spy.plugin:Spy", "oodkit_spy.plugin:SpyOptions"
    return [CurvatureSpec(name="spy", target=target, options=options, summary="remembers the images that it sees")]
"""


@pytest.fixture
def spy(install):
    install("oodkit-spy", SPY)
    import oodkit_spy.plugin as package

    return package.Spy


def numbers(first_pixels):
    """Return the sorted numbers of the images with these first pixels, which the model has scaled."""
    return sorted(round(255 * float(pixel)) for pixel in first_pixels)


@pytest.mark.parametrize(
    ("options", "for_f", "for_mean"),
    [
        ({}, 48, 12),  # a fifth kept apart
        ({"calibration_images": 5}, 55, 5),
        ({"fitting_images": 20}, 20, 12),
        ({"fitting_images": 20, "calibration": "same"}, 20, 20),
        ({"calibration": "same"}, 60, 60),
    ],
)
def test_which_images_make_f_and_which_mean_and_spread(spy, model, options, for_f, for_mean):
    create_detector("rose-spy", model, layers=("first",), **options).fit(TRAIN)
    fitted, calibrated = numbers(spy.fitted), numbers(spy.scored)
    assert (len(fitted), len(calibrated)) == (for_f, for_mean)
    assert len(set(fitted)) == for_f and len(set(calibrated)) == for_mean
    if options.get("calibration") == "same":
        assert fitted == calibrated
    else:
        assert not set(fitted) & set(calibrated)


def test_the_seed_draws_the_images(spy, model):
    drawn = []
    for seed in (0, 0, 1):
        spy.fitted.clear()
        create_detector("rose-spy", model, layers=("first",), fitting_images=20, seed=seed).fit(TRAIN)
        drawn.append(numbers(spy.fitted))
    assert drawn[0] == drawn[1] != drawn[2]


def test_rose_runs_over_the_curvature_of_another_package(spy, model):
    identity = create_detector("rose-identity", model, calibration="same").fit(TRAIN).score(TEST)
    assert_same(create_detector("rose-spy", model, calibration="same").fit(TRAIN).score(TEST), identity)
    rooted = create_detector("rose-identity", model, calibration="same", root=True).fit(TRAIN).score(TEST)
    assert_same(create_detector("rose-spy", model, calibration="same", power=0.5).fit(TRAIN).score(TEST), rooted)


def test_a_curvature_whose_scores_are_not_finite_is_refused(install, model):
    install("oodkit-spy", SPY.replace("** self.options.power", "/ 0"))
    with pytest.raises(ImageError, match="numbers of the calibration images are not finite; choose a larger damping"):
        create_detector("rose-spy", model).fit(TRAIN)


# --- a score is the image's own ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vae():
    """A small VAE, in float32, whose encoder matters: as drawn at random, its gradients are far below any damping."""
    small = create_model("vae", (1, 32, 32), width=3, latent=4, device="cpu").eval()
    with torch.no_grad():
        for weight in small.parameters():
            weight.mul_(8 if weight.ndim == 4 else 1)
    return small


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rose-ekfac", {}),
        ("rose-ekfac", {"aggregation": "mahalanobis", "relative_damping": 1}),
        ("rose-ekfac", {"aggregation": "p-norm", "p": 2, "calibration": "same"}),
        ("rose-diag", {"root": True, "layers": ("mean", "trunk.1.weight")}),
        ("rose-identity", {}),
    ],
)
def test_alone_in_any_company_and_after_loading(vae, tmp_path, name, options):
    train, test = random_images(30, 0, side=32), random_images(8, 1, side=32)
    detector = create_detector(name, vae, batch_size=5, **options).fit(train)
    together = detector.score(test)
    assert together.dtype == torch.float32 and together.shape == (8,)
    order = torch.tensor([7, 3, 0, 1, 2, 4, 5, 6])
    assert_same(detector.score(test[order]), together[order], tolerance=1e-3)
    assert_same(torch.cat([detector.score(image[None]) for image in test]), together, tolerance=1e-3)
    assert_same(detector.score(torch.cat([train, test, 255 - test]))[30:38], together, tolerance=1e-3)
    detector.save(tmp_path / "rose.oodkit")
    loaded = load_detector(tmp_path / "rose.oodkit", device="cpu", batch_size=5)
    assert_same(loaded.score(test), together)  # not bit for bit: eigenvectors come back in another memory order
    assert loaded.state.keys() == detector.state.keys()
    assert all(torch.equal(loaded.state[key], value) for key, value in detector.state.items())


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_are_refused(model, count):
    with pytest.raises(ImageError, match=f"needs at least 3 images to fit.*got {count}"):
        create_detector("rose-ekfac", model).fit(TRAIN[:count])


@pytest.mark.parametrize("aggregation", ["max", "p-norm", "mahalanobis"])
@pytest.mark.parametrize("calibration", ["same", "apart"])
@pytest.mark.parametrize("train", [TRAIN[:3], TRAIN[:1].expand(5, -1, -1, -1)], ids=["three", "five times the same"])
def test_few_images_give_finite_scores(model, train, calibration, aggregation):
    detector = create_detector("rose-ekfac", model, calibration=calibration, aggregation=aggregation)
    assert detector.fit(train).score(torch.cat([TEST, torch.zeros(1, 1, 8, 8, dtype=torch.uint8)])).isfinite().all()


def test_weights_that_are_not_numbers_are_refused():
    model = Net()
    model.second.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(TrainingError, match=r"second\.weight holds NaN"):
        create_detector("rose-ekfac", model).fit(TRAIN)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": ()}, "layers"),
        ({"aggregation": "min"}, "aggregation"),
        ({"calibration": "both"}, "calibration"),
        ({"p": 0.5}, "p = 0.5"),
        ({"damping": -1}, "damping = -1"),
        ({"damping": float("nan")}, "damping = nan"),
        ({"fitting_images": 0}, "fitting_images = 0"),
    ],
)
def test_values_that_are_not_allowed(model, options, said):
    with pytest.raises(OptionError, match=f"rose-ekfac.{said}"):
        create_detector("rose-ekfac", model, **options)


def test_an_unknown_layer_is_named(model):
    with pytest.raises(OptionError, match=r"no layer or parameter is called 'fourth'; .* are: first, second, third\."):
        create_detector("rose-ekfac", model, layers=("third", "fourth")).fit(TRAIN)


def test_identity_has_no_damping(model):
    with pytest.raises(OptionError, match="rose-identity has no option 'damping'"):
        create_detector("rose-identity", model, damping=1)
