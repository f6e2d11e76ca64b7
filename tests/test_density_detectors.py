"""Detectors that are densities of a few numbers per image, and ensembles, against what they are by definition."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

import oodkit
from oodkit import DensityOptions, ImageError, OptionError, PluginError, create_detector, fit_density
from oodkit.registry import registry
from oodkit.testing import blobs, noise
from oodkit.testing.inputs import small_vae

TRAIN, TEST = blobs(60, seed=2), torch.cat([blobs(5, seed=3).images, noise(3).images])


def scores(name, model=None, train=TRAIN, **options):
    return create_detector(name, model, device="cpu", batch_size=7, **options).fit(train).score(TEST)


def statistics(images, *names):
    with torch.no_grad():
        found = small_vae().statistics(images)
    return torch.stack([found[name] for name in names or found], 1).double()


def file_lengths(images):
    rows = []
    for image in images:
        lengths = []
        for settings in (
            {"format": "PNG", "compress_level": 9, "compress_type": 0},
            {"format": "JPEG2000", "irreversible": False},
            {"format": "JPEG", "quality": 75},
        ):
            file = io.BytesIO()
            Image.fromarray(image[0].numpy()).save(file, **settings)
            lengths.append(float(len(file.getvalue())))
        rows.append(lengths)
    return torch.tensor(rows, dtype=torch.float64)


PATH = ("residual", "mean_norm", "deviation_norm")


@pytest.mark.parametrize(
    ("name", "kind", "chosen"),
    [("statistics-density", "mixture", ()), ("dose", "kde", ()), ("lpath", "tails", PATH)],
)
def test_statistics_and_their_density(name, kind, chosen):
    density = fit_density(statistics(TRAIN.images, *chosen), DensityOptions(density=kind))
    expected = density.score(statistics(TEST, *chosen))
    torch.testing.assert_close(scores(name, small_vae(), lengths=()), expected.float(), rtol=1e-3, atol=1e-2)


def test_complexity_is_a_density_of_file_lengths_and_needs_no_model():
    expected = fit_density(file_lengths(TRAIN.images), DensityOptions()).score(file_lengths(TEST))
    found = scores("complexity")
    torch.testing.assert_close(found, expected.float())
    assert found[5:].min() > found[:5].max()  # noise


def test_a_detector_without_a_model_can_be_fitted_to_another_shape():
    detector = create_detector("complexity").fit(TRAIN)
    wider = TRAIN.images.repeat(1, 1, 1, 2)
    again = detector.fit(wider).score(wider[:5])
    torch.testing.assert_close(again, create_detector("complexity").fit(wider).score(wider[:5]), rtol=0, atol=0)
    with pytest.raises(ImageError, match="1x32x32"):  # of the shape before
        detector.score(TEST)


@pytest.mark.parametrize("images", [torch.zeros(9, 2, 8, 8, dtype=torch.uint8), TRAIN.images[:1, :, :16]])
def test_a_failed_fit_leaves_what_was_fitted_before(images):
    detector = create_detector("complexity").fit(TRAIN)
    before = detector.score(TEST)
    with pytest.raises(ImageError):
        detector.fit(images)
    torch.testing.assert_close(detector.score(TEST), before, rtol=0, atol=0)


def test_lengths_join_the_statistics():
    both = [torch.cat([statistics(x), file_lengths(x)[:, :1]], 1) for x in (TRAIN.images, TEST)]
    expected = fit_density(both[0], DensityOptions()).score(both[1])
    found = scores("statistics-density", small_vae(), lengths=["png"], density="mahalanobis")
    torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-3)


def test_typicality_is_the_distance_from_the_entropy():
    with torch.no_grad():
        train, test = (-small_vae().log_likelihood(x, samples=3, seed=0).double() for x in (TRAIN.images, TEST))
    expected = (test - train.mean()).abs().float()
    torch.testing.assert_close(scores("typicality", small_vae(), samples=3), expected, rtol=1e-4, atol=1e-2)


def gradients(images):
    """Return log-probabilities (N,) and each layer's gradients, one image at a time, by autograd: (N, weights)."""
    model, rows = small_vae(), []
    layers = [dict(model.named_modules())[name] for name in model.curvature_layers()]
    for image in images:
        log_p = model.log_prob(image[None]).sum()
        of_layers = [torch.autograd.grad(log_p, list(layer.parameters()), retain_graph=True) for layer in layers]
        rows.append([log_p.detach(), *(torch.cat([g.flatten() for g in parts]) for parts in of_layers)])
    return [torch.stack(column).double() for column in zip(*rows, strict=True)]


def test_gradient_norms_are_independent_normal_logarithms():
    _, *train = gradients(TRAIN.images[:20])
    _, *test = gradients(TEST)
    expected = 0
    for known, new in zip(train, test, strict=True):
        logs = known.square().sum(1).log()
        expected = expected + ((new.square().sum(1).log() - logs.mean()) / logs.std()).square()
    found = scores("gradient-norm-density", small_vae(), train=TRAIN.select(torch.arange(20)))
    torch.testing.assert_close(found, expected.float(), rtol=1e-2, atol=1e-2)


ORDER = torch.randperm(len(TRAIN), generator=torch.Generator().manual_seed(0))  # a fifth makes layers comparable
SPLITS = {"same": (TRAIN, TRAIN), "apart": (TRAIN.select(ORDER[12:]), TRAIN.select(ORDER[:12]))}
both_calibrations = pytest.mark.parametrize("calibration", SPLITS)


@both_calibrations
def test_score_test_joins_the_gradient_and_the_likelihood(calibration):
    detector = create_detector("score-test", small_vae(), device="cpu", damping=1e-3, calibration=calibration)
    fitting, known = SPLITS[calibration]
    _, *of_f = gradients(fitting.images)
    fisher = [g.square().mean(0) + 1e-3 for g in of_f]

    def values(images):
        log_p, *layers = gradients(images)
        return torch.stack([log_p, sum((s.square() / f).sum(1) for s, f in zip(layers, fisher, strict=True))], 1)

    tests = fit_density(values(known.images), DensityOptions(density="tails"))
    torch.testing.assert_close(detector.fit(TRAIN).score(TEST), tests.score(values(TEST)).float(), rtol=2e-2, atol=2e-2)


@both_calibrations
def test_rose_plus_is_a_density_of_layers_and_statistics(calibration):
    detector = create_detector("rose-plus-identity", small_vae(), device="cpu", calibration=calibration)
    _, known = SPLITS[calibration]

    def values(images):
        _, *layers = gradients(images)
        layer_scores = torch.stack([s.square().sum(1) for s in layers], 1)
        return torch.cat([layer_scores, statistics(images), file_lengths(images)], 1)

    density = fit_density(values(known.images), DensityOptions(density="mixture"))
    torch.testing.assert_close(
        detector.fit(TRAIN).score(TEST), density.score(values(TEST)).float(), rtol=2e-2, atol=2e-2
    )


def test_waic_is_variance_less_mean_over_its_members():
    detector = create_detector("waic", small_vae(), device="cpu", members=3, epochs=1, samples=2).fit(TRAIN)
    twins = []
    for number in (1, 2):
        twin = small_vae().fresh(seed=number)
        twins.append(oodkit.train_model(twin, TRAIN, seed=number, epochs=1))
    with torch.no_grad():
        members = [m.log_likelihood(TEST, samples=2, seed=0).double().numpy() for m in (small_vae(), *twins)]
    expected = np.var(members, axis=0, ddof=1) - np.mean(members, axis=0)
    torch.testing.assert_close(detector.score(TEST), torch.tensor(expected).float(), rtol=1e-3, atol=1e-1)


def test_waic_over_models_that_are_there(tmp_path):
    twins = [small_vae().fresh(seed=number) for number in (1, 2)]
    files = [tmp_path / f"{number}.oodkit" for number in (1, 2)]
    for twin, file in zip(twins, files, strict=True):
        twin.save(file)
    detector = create_detector("waic", small_vae(), device="cpu", models=files, samples=2).fit(TRAIN)
    with torch.no_grad():
        members = [m.eval().log_likelihood(TEST, samples=2, seed=0).double().numpy() for m in (small_vae(), *twins)]
    expected = np.var(members, axis=0, ddof=1) - np.mean(members, axis=0)
    torch.testing.assert_close(detector.score(TEST), torch.tensor(expected).float(), rtol=1e-3, atol=1e-1)
    detector.save(tmp_path / "waic.oodkit")
    for file in files:
        file.unlink()  # their weights are in the detector's own file
    again = oodkit.load_detector(tmp_path / "waic.oodkit", device="cpu")
    torch.testing.assert_close(again.score(TEST), detector.score(TEST))
    wider = oodkit.create_model("vae", small_vae().image_shape, width=5, latent=3, device="cpu")
    wider.save(files[0])
    with pytest.raises(oodkit.OptionError, match=r"1\.oodkit holds a model of another make"):
        create_detector("waic", small_vae(), device="cpu", models=files[:1]).fit(TRAIN)


@pytest.mark.parametrize("combine", ["fisher", "cauchy", "min"])
def test_ensemble_joins_p_values_of_images_that_its_members_did_not_see(combine):
    members = ("elbo", "statistics-density[density=tails;fitting_images=40]")
    found = scores("ensemble", small_vae(), members=members, combine=combine)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    kept, fitting = TRAIN.select(order[:12].sort().values), TRAIN.select(order[12:].sort().values)
    columns = []
    for name, options in (("elbo", {}), ("statistics-density", {"density": "tails", "fitting_images": 40})):
        member = create_detector(name, small_vae(), device="cpu", **options).fit(fitting)
        known, new = sorted(member.score(kept).tolist()), member.score(TEST).tolist()
        scale = known[-1] - known[-2]  # the tail: the last twentieth of 12, one score
        columns.append(
            [math.log((1 + sum(k >= s for k in known)) / 13) - math.log1p(max(0, s - known[-1]) / scale) for s in new]
        )
    logs = np.array(columns)
    expected = {
        "fisher": -2 * logs.sum(0),
        "min": -logs.min(0),
        "cauchy": np.arcsinh(np.mean(np.tan((0.5 - np.minimum(np.exp(logs), 1 - 1e-12)) * np.pi), axis=0)),
    }[combine]
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-3)


def test_an_ensemble_depends_on_what_its_members_depend_on():
    found = oodkit.detector_versions("ensemble", members=("elbo", "complexity", "ic-png[seed=1]"))
    assert found == oodkit.detector_versions("complexity") | oodkit.detector_versions("ic-png")
    assert "jpg_2000" in found
    assert oodkit.detector_versions("ensemble", members=("elbo",)) == {}
    of_png = oodkit.detector_versions("ensemble", members=("complexity[lengths=png]",))
    assert of_png == oodkit.detector_versions("complexity", lengths=["png"])


def test_names_without_a_curvature_stand_for_the_usual_one():
    names = {alias: registry().detector(alias).spec.name for alias in ("rose", "rose-plus", "score-test")}
    assert names == {"rose": "rose-ekfac", "rose-plus": "rose-plus-ekfac", "score-test": "score-test-diag"}


class Bare(oodkit.LatentVariableModel):
    """A latent-variable model that writes no more than it must."""

    def __init__(self):
        super().__init__((1, 2, 2), oodkit.ModelOptions())
        self.map = torch.nn.Linear(4, 4)

    def encode(self, images):
        return self.map(images.flatten(1) / 255.0).chunk(2, 1)

    def log_prob_given(self, images, z):
        return -(images.flatten(1) / 255.0 - z.repeat(1, 2)).square().sum(1)


def test_a_bare_latent_variable_model_has_four_statistics():
    model, images = Bare(), torch.randint(256, (5, 1, 2, 2), generator=torch.Generator().manual_seed(0)).byte()
    with torch.no_grad():
        found, log_p, (mean, log_variance) = model.statistics(images), model.log_prob(images), model.encode(images)
    torch.testing.assert_close(-found["reconstruction_nll"] - found["kl"], log_p)
    torch.testing.assert_close(found["mean_norm"].square(), (mean**2).sum(1))
    torch.testing.assert_close(found["deviation_norm"].square(), log_variance.exp().sum(1))


def test_mistakes_are_one_sentence():
    with pytest.raises(PluginError, match="no statistic colour; it has reconstruction_nll, "):
        scores("statistics-density", small_vae(), statistics=["colour"])
    with pytest.raises(OptionError, match="is no other detector"):
        scores("ensemble", small_vae(), members=["ensemble"])
    with pytest.raises(oodkit.UnknownNameError):
        scores("ensemble", small_vae(), members=["elb"])
    with pytest.raises(ImageError, match="at least 15 images"):
        scores("ensemble", small_vae(), train=blobs(9))
    with pytest.raises(ImageError, match="only grey"):
        create_detector("complexity").fit(torch.zeros(4, 2, 8, 8, dtype=torch.uint8))
