"""GLOW: an exact density, its inverse, its gradients; numbers that stay finite, and training that stops when not."""

import math

import pytest
import torch
from torch.distributions import Normal

from oodkit import (
    ImageError,
    ImageSet,
    ModelOptions,
    OptionError,
    PluginError,
    Trainable,
    TrainingError,
    create_detector,
    create_model,
    layer_gradients,
    optimise,
    train_model,
)
from oodkit.artifact import read_artifact
from oodkit.registry import registry
from oodkit.testing import blobs, model_checks, noise
from oodkit_glow.layers import ActNorm, Coupling, Step
from oodkit_glow.model import Glow

TINY = {"steps": 1, "hidden": 4, "epochs": 1}


def moved(module, by=0.3):
    """Return the module in float64 with all weights moved at random: an untrained coupling does nothing."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return module.eval()


def glow(shape=(1, 8, 8), **options) -> Glow:
    return moved(create_model("glow", shape, device="cpu", **{**TINY, **options}))


def random_images(count, shape):
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def trained() -> Glow:
    return train_model("glow", blobs(64), device="cpu", **{**TINY, "epochs": 3})


@pytest.mark.parametrize("check", model_checks("glow", **TINY, multi_scale=True), ids=lambda check: check.__name__)
def test_multi_scale_conforms(check):
    check()


# --- the density --------------------------------------------------------------------------------------------

CASES = pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 4, 4), {"blocks": 2, "steps": 2}),
        ((3, 4, 4), {"blocks": 2, "multi_scale": True}),
        ((1, 8, 4), {"blocks": 2, "steps": 2, "multi_scale": True}),
    ],
    ids=["grey", "colour, multi-scale", "not square, multi-scale"],
)


@CASES
def test_the_inverse_gives_the_image_back(shape, options):
    model = glow(shape, **options)
    x = model.dequantise(random_images(5, shape), model.noise)
    torch.testing.assert_close(model.decode(model.encode(x).latents), x, rtol=0, atol=1e-9)


@CASES
def test_log_prob_is_the_change_of_variables_with_the_dense_jacobian(shape, options):
    model = glow(shape, **options)
    image = random_images(1, shape)

    def latents(values):  # of grey values 0..256, so that the cell of one image has volume 1
        return torch.cat([z.flatten() for z in model.encode(values.view(1, *shape) / 256 - 0.5).latents])

    values = (image + model.noise).flatten()
    log_det = torch.linalg.slogdet(torch.func.jacrev(latents)(values)).logabsdet
    log_p_z = log_prior(model, model.encode(values.view(1, *shape) / 256 - 0.5).latents)
    torch.testing.assert_close(model.log_prob(image).squeeze(), log_p_z + log_det)


def log_prior(model, latents):
    """Return log p(z) of one image: where half of z left the flow early, given the other half."""
    mean, log_deviation = model.prior.chunk(2, 1)
    log_p = Normal(mean, log_deviation.exp()).log_prob(latents[-1]).sum()
    if model.splits:
        kept = latents[-1]
        for step in reversed(model.blocks[1]):
            kept = step.inverse(kept)
        mean, log_deviation = model.splits[0](torch.nn.functional.pixel_shuffle(kept, 2)).chunk(2, 1)
        log_p = log_p + Normal(mean, log_deviation.exp()).log_prob(latents[0]).sum()
    return log_p


def test_the_density_of_two_numbers_integrates_to_1():
    steps = [moved(Step(2, 4), by) for by in (0.3, 0.5)]
    axis = torch.linspace(-30, 30, 401, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)[:, :, None, None]  # (N, 2, 1, 1)
    log_p = torch.zeros(len(z), dtype=torch.float64)
    with torch.no_grad():
        for step in steps:
            z, log_det = step(z)
            log_p += log_det
    log_p += Normal(0, 1).log_prob(z).flatten(1).sum(1)
    assert log_p.exp().sum() * (axis[1] - axis[0]).square() == pytest.approx(1, abs=2e-3)


def test_statistics_are_the_terms_of_log_prob(trained):
    with torch.no_grad():
        terms = trained.statistics(blobs(4).images)
        torch.testing.assert_close(terms["log_prob"], trained.log_prob(blobs(4).images))
    assert list(terms) == ["log_prob", "log_p_z", "log_det_0_0", "log_det_1_0"]
    total = sum(v for k, v in terms.items() if k != "log_prob") - 1024 * math.log(256)
    torch.testing.assert_close(terms["log_prob"], total)


def test_the_noise_is_one_image_of_its_seed_and_fresh_in_training(trained):
    images = blobs(2).images
    other = trained.fresh(dequantisation_seed=1)
    other.load_state_dict(trained.state_dict())
    assert not torch.equal(other.log_prob(images), trained.log_prob(images))
    assert torch.equal(trained.fresh(seed=5).noise, trained.noise)
    generator = torch.Generator().manual_seed(0)
    assert trained.loss(images, generator) != trained.loss(images, generator)


def test_training_reports_bits_per_dimension(trained):
    bits = trained.training_record["bits_per_dimension"]
    assert len(bits) == 3 and bits == sorted(bits, reverse=True)
    with torch.no_grad():
        nats = -trained.log_prob(blobs(64).images).mean().item()
    assert nats / (1024 * math.log(2)) == pytest.approx(bits[-1], rel=0.1)


@pytest.mark.parametrize(
    ("name", "shape", "sizes", "weight_decay"),
    [
        ("glow-fashion-mnist", (1, 32, 32), {"blocks": 2, "steps": 16, "hidden": 200, "multi_scale": False}, 0.0),
        ("glow-cifar10", (3, 32, 32), {"blocks": 3, "steps": 8, "hidden": 400, "multi_scale": True}, 5e-5),
    ],
)
def test_the_presets_are_the_papers(name, shape, sizes, weight_decay):
    model = create_model(name, shape, device="cpu")
    recipe = {"optimizer": "adamax", "learning_rate": 5e-4, "warmup_epochs": 5.0, "batch_size": 64, "epochs": 50}
    expected = {**sizes, **recipe, "weight_decay": weight_decay, "flips": False}
    assert expected.items() <= model.options.model_dump().items()
    assert len(model.curvature_layers()) == sizes["blocks"] * sizes["steps"]
    with torch.no_grad():
        assert model.log_prob(random_images(2, shape)).isfinite().all()


def test_images_that_cannot_be_halved_are_refused():
    with pytest.raises(ImageError, match="30x32 cannot be"):
        create_model("glow", (1, 30, 32), device="cpu")


# --- never NaN ----------------------------------------------------------------------------------------------


def test_the_first_batches_set_the_actnorms_and_no_later_ones():
    model = create_model("glow", (1, 8, 8), device="cpu", **TINY)
    generator, again = (torch.Generator().manual_seed(0) for _ in range(2))
    images = random_images(64, (1, 8, 8)).split(8)
    for batch in images:
        model.loss(batch, generator)
    x = torch.cat([model.dequantise(b, torch.rand(b.shape, generator=again)) for b in images])
    seen = {}
    for name, layer in model.named_modules():
        if isinstance(layer, ActNorm):
            layer.register_forward_hook(lambda _, inputs, y, name=name: seen.update({name: y.clone()}))
    with torch.no_grad():
        model.encode(x)
    first, *later = seen.values()
    torch.testing.assert_close(first.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(first.var((0, 2, 3), correction=0), torch.ones(4), atol=1e-5, rtol=0)
    for y in later:  # what reached them was still moving, for those before them were being set
        assert y.mean((0, 2, 3)).abs().max() < 0.1 and (y.std((0, 2, 3)) - 1).abs().max() < 0.1
    before = {k: v.clone() for k, v in model.named_parameters()}
    model.loss(random_images(8, (1, 8, 8)) // 2, generator)
    assert all(torch.equal(v, before[k]) for k, v in model.named_parameters())


def test_a_constant_channel_does_not_blow_up_actnorm():
    layer = ActNorm(2)
    x = torch.stack([torch.full((4, 3, 3), 0.7), torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(0))], 1)
    layer.observe(x)
    assert layer(x)[:, 0].abs().max() < 1e-3
    assert layer(x + 0.01)[:, 0].abs().max() < 20


@pytest.mark.parametrize("value", [0, 255])
def test_trained_on_constant_images_everything_has_a_finite_likelihood(value):
    images = ImageSet("constant", "train", torch.full((32, 1, 32, 32), value, dtype=torch.uint8))
    model = train_model("glow", images, device="cpu", **{**TINY, "epochs": 2})
    with torch.no_grad():
        assert model.log_prob(torch.cat([images.images[:1], 255 - images.images[:1], noise(2).images])).isfinite().all()


def test_a_scale_that_underflows_is_finite_in_its_logarithm():
    coupling = Coupling(4, 4)
    coupling.net[-1].conv.bias.data.fill_(-200.0)  # sigmoid(-198) is 0 in float32
    y, log_det = coupling(torch.ones(1, 4, 2, 2))
    assert y.isfinite().all()
    torch.testing.assert_close(log_det, torch.tensor([-198.0 * 2 * 4]))


class BreaksDown(Trainable):
    """Its loss is NaN from a given step on."""

    def __init__(self, at_step: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.register_buffer("steps", torch.zeros(()))
        self.at_step = at_step

    def loss(self, images, generator):
        self.steps += 1
        return self.weight * (1.0 if self.steps < self.at_step else math.nan)


RECIPE = ModelOptions(epochs=5, batch_size=8, learning_rate=0.1)


def test_late_training_stops_at_the_last_good_epoch_and_says_so(tmp_path):
    module, images = BreaksDown(at_step=18), blobs(64)  # 8 steps an epoch: in the third
    reference = BreaksDown(at_step=1000)
    optimise(reference, images, RECIPE.model_copy(update={"epochs": 2}), name="toy")
    with pytest.warns(UserWarning, match=r"the loss is nan in epoch 3.*weights are those of epoch 2"):
        record = optimise(module, images, RECIPE, name="toy", checkpoint=tmp_path / "checkpoint")
    assert len(record["losses"]) == 2 and "epoch 2" in record["stopped"]
    torch.testing.assert_close(module.weight, reference.weight)
    assert read_artifact(tmp_path / "checkpoint", "checkpoint")[0]["epoch"] == 2


def test_weights_broken_by_the_last_step_of_an_epoch_are_not_its_result():
    class Late(BreaksDown):
        def loss(self, images, generator):
            loss = super().loss(images, generator)
            return loss if self.steps % 8 else self.weight * 1.0 + (self.weight - self.weight.detach()).sqrt() * 0

    module = Late(at_step=1000)  # a loss of 1 whose gradient is NaN, at the eighth step
    with pytest.raises(TrainingError, match="epoch 1"):
        optimise(module, blobs(64), RECIPE, name="toy")


def test_training_that_never_was_good_is_an_error():
    with pytest.raises(TrainingError, match="the loss is nan in epoch 1"):
        optimise(BreaksDown(at_step=1), blobs(64), RECIPE, name="toy")


# --- gradients and detectors --------------------------------------------------------------------------------


@CASES
def test_gradients_are_those_of_autograd_one_image_at_a_time(shape, options):
    model, images = glow(shape, **options), random_images(3, shape)
    layers = model.matching_layers(["*"])
    assert set(model.curvature_layers()) < set(layers)
    fast = layer_gradients(model, images, layers)
    for n in range(len(images)):
        model.zero_grad()
        model.log_prob(images[n : n + 1]).backward()
        for name in layers:
            torch.testing.assert_close(fast[name].dense()[n].squeeze(0), weight_gradient(model, name), msg=name)


def weight_gradient(model, name):
    """Return the gradient that autograd left in a parameter, or in a convolution's weight and bias."""
    if name in (parameters := dict(model.named_parameters())):
        return parameters[name].grad
    layer = model.get_submodule(name)
    parts = [layer.weight.grad.flatten(1)] + ([layer.bias.grad[:, None]] if layer.bias is not None else [])
    return torch.cat(parts, 1)


def test_gradients_of_the_invertible_convolutions_are_those_of_finite_differences():
    # What autograd cannot tell: whether log |det W| itself is part of log p.
    model, images, h = glow(), random_images(1, (1, 8, 8)), 1e-6
    for name, gradient in layer_gradients(model, images).items():
        weight = model.get_parameter(name)
        direction = torch.randn(weight.shape, dtype=weight.dtype, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            weight += h * direction
            above = model.log_prob(images)
            weight -= 2 * h * direction
            below = model.log_prob(images)
            weight += h * direction
        slope = (gradient.dense()[0] * direction).sum()
        torch.testing.assert_close(slope, (above - below).squeeze() / (2 * h), rtol=1e-5, atol=0)


def test_patterns_name_layers_in_the_model_s_order():
    model = glow()
    layers = model.matching_layers(["*"])
    invertible = [name for name in layers if name.endswith("mix.weight")]
    assert invertible == model.curvature_layers() == model.matching_layers(None) == model.matching_layers(["*.mix.*"])
    assert sum("coupling" in name for name in layers) == 6
    steps = [name.split(".")[2] for name in layers if name.startswith("blocks.")]
    assert steps == sorted(steps)
    assert model.matching_layers(["*.mix.*", "blocks.0.0.*", "prior"]) == [
        *invertible,
        *(name for name in layers if name.startswith("blocks.0.0.") and name not in invertible),
        "prior",  # no layer: a parameter
    ]
    with pytest.raises(OptionError, match=r"no layer or parameter is called 'trunk\.\*'; .* are: blocks"):
        model.matching_layers(["trunk.*"])


def test_rose_takes_patterns(trained):
    images = blobs(12).images
    named = create_detector("rose-diag", trained, layers=trained.matching_layers(["*"])).fit(images)
    by_pattern = create_detector("rose-diag", trained, layers=["*"]).fit(images)
    assert torch.equal(by_pattern.score(images), named.score(images))
    assert len(by_pattern.explain(images).names) > len(trained.curvature_layers())


ANY_MODEL = [n for n, entry in registry().detectors.items() if entry.spec.model in ("any", "density")]
ENCODER = [name for name, entry in registry().detectors.items() if entry.spec.model == "latent-variable"]


@pytest.mark.parametrize("name", ANY_MODEL)
def test_every_detector_of_any_model_runs_on_glow(name, trained):
    detector = create_detector(name, trained, batch_size=16).fit(blobs(24, seed=1))
    test = torch.cat([blobs(2, seed=2).images, noise(2).images, torch.zeros(1, 1, 32, 32, dtype=torch.uint8)])
    scores = detector.score(test)
    assert scores.isfinite().all()
    alone = torch.cat([detector.score(image[None]) for image in test])
    torch.testing.assert_close(alone, scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ENCODER)
def test_a_detector_that_needs_an_encoder_refuses_glow(name, trained):
    with pytest.raises(PluginError, match=f"{name} needs a latent-variable model such as vae; glow has no encoder"):
        create_detector(name, trained)
