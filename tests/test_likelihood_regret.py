"""Likelihood regret against the loop of the literature: one image, one copied encoder, one torch.optim.Adam."""

import copy
import math
import subprocess
import sys

import pytest
import torch
from needs import needs_data, needs_reference
from reference import reference_vae
from torch import nn
from torch.distributions import Normal

import oodkit
from oodkit.bench.metrics import auroc
from oodkit_likelihood_regret.encoders import EncoderPerImage

SMALL = {"steps": 6, "samples": 3, "learning_rate": 0.01}


def random_images(n, shape=(1, 32, 32), seed=0):
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def tiny_vae():
    model = oodkit.create_model("vae", (1, 32, 32), seed=1, device="cpu", width=2, latent=4).eval()
    generator = torch.Generator().manual_seed(2)
    for name, value in model.state_dict().items():  # an untrained encoder answers nearly the same to every image
        if "running" in name or value.ndim == 1:
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.2)
    return model


class TinyModel(oodkit.LatentVariableModel):
    """Any encoder from 8x8 images to 6 numbers: means and log-variances of 3 latent dimensions."""

    def __init__(self, encoder):
        super().__init__((1, 8, 8), oodkit.ModelOptions())
        self.decoder = nn.Linear(3, 64)  # first, so that the encoder's weights are not simply the first ones
        self.encoder = encoder

    def encode(self, images):
        return self.encoder(images.to(self.dtype) / 255).chunk(2, 1)

    def log_prob_given(self, images, z):
        return Normal(self.decoder(z), 1.0).log_prob(images.flatten(1) / 255).sum(1)


class CalledTwice(nn.Module):
    """One layer, which the forward pass calls twice."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Linear(64, 64), nn.Linear(64, 6)

    def forward(self, x):
        return self.last(self.inner(self.inner(x.flatten(1)).tanh()))


class Bare(nn.Module):
    """Its weight belongs to no layer."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 6) * 0.1)

    def forward(self, x):
        return x.flatten(1) @ self.weight


class Tied(nn.Module):
    """Two layers, one weight."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(64, 64), nn.Linear(64, 64, bias=False), nn.Linear(64, 6)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.head(self.two(self.one(x.flatten(1)).tanh()))


class Reached(nn.Module):
    """Uses a layer's weight without calling the layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 6)

    def forward(self, x):
        return nn.functional.linear(x.flatten(1), self.layer.weight)


class RowsFirst(nn.Module):
    """Brings a layer rows of the image that are not in the order of the images."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(8, 3), nn.Linear(24, 6)

    def forward(self, x):
        rows = self.layer(x[:, 0].transpose(0, 1))  # (rows, N, 3)
        return self.head(rows.transpose(0, 1).flatten(1))


STACKED = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 6)),
    "rows": lambda: nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4, bias=False), nn.Flatten(), nn.Linear(32, 6)),
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 8, (3, 2), dilation=(1, 2), padding="same", padding_mode="reflect", groups=2),
        nn.GroupNorm(2, 8),
        nn.Flatten(),
        nn.Linear(128, 6, bias=False),
        nn.BatchNorm1d(6),
    ),
}
COPIED = {
    "no rule": lambda: nn.Sequential(nn.ConvTranspose2d(1, 2, 2), nn.PReLU(2), nn.Flatten(), nn.Linear(162, 6)),
    "bare": Bare,
    "tied": Tied,
    "twice": lambda: nn.Sequential(nn.Flatten(), *[nn.Linear(64, 64)] * 2, nn.Linear(64, 6)),
    "called twice": CalledTwice,
    "reached": Reached,
    "rows first": RowsFirst,
}


def tiny_model(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyModel((STACKED | COPIED)[kind]()).double().eval()


def slow_log_likelihood(model, image, mean, log_variance, noise):
    q, p = Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)
    weights = []
    for eps in noise:
        z = q.mean + q.stddev * eps
        weights.append(model.log_prob_given(image, z) + p.log_prob(z).sum(1) - q.log_prob(z).sum(1))
    return torch.stack(weights).logsumexp(0) - math.log(len(noise))


def slow_regret(model, image, over, *, steps=6, samples=3, learning_rate=0.01, weight_decay=5e-5, seed=0):
    """The regret of one image, (1,): a loop in plain torch."""
    encoder = copy.deepcopy(model)
    mean, log_variance = (t.detach() for t in model.encode(image))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples + steps, 1, mean.shape[1], generator=generator, dtype=torch.float64)
    before = slow_log_likelihood(model, image, mean, log_variance, noise[:samples])
    if over == "lr-e":
        weights = [p for n, p in encoder.named_parameters() if "decoder" not in n]
        adam = torch.optim.Adam(weights, lr=learning_rate, weight_decay=weight_decay)
    else:
        q = mean.clone().requires_grad_(), log_variance.clone().requires_grad_()
        adam = torch.optim.Adam(q, lr=learning_rate)
    for eps in noise[samples:]:
        mean, log_variance = encoder.encode(image) if over == "lr-e" else q
        z = mean + (log_variance / 2).exp() * eps
        kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        adam.zero_grad()
        (kl - model.log_prob_given(image, z).sum()).backward()
        adam.step()
    mean, log_variance = encoder.encode(image) if over == "lr-e" else q
    return (slow_log_likelihood(model, image, mean, log_variance, noise[:samples]) - before).detach()


def fast_and_slow(name, model, images, images_at_once=None, **options):
    detector = oodkit.create_detector(name, model, images_at_once=images_at_once, **(SMALL | options))
    fast = detector.fit(images).score(images)
    slow = torch.cat([slow_regret(model, image, name, **(SMALL | options)) for image in images.split(1)])
    return fast, slow.float()


@pytest.mark.parametrize("name", ["lr-e", "lr-z"])
def test_a_vae_against_one_image_at_a_time(name):
    fast, slow = fast_and_slow(name, tiny_vae().double(), random_images(5), images_at_once=3, seed=7)
    assert slow.std() > 0.1  # the images differ, so a mix-up would show
    torch.testing.assert_close(fast, slow, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [*STACKED, *COPIED])
def test_any_encoder_against_one_image_at_a_time(kind):
    images = random_images(4, (1, 8, 8))
    fast, slow = fast_and_slow("lr-e", tiny_model(kind), images, weight_decay=0.1)
    torch.testing.assert_close(fast, slow, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [*STACKED, *COPIED])
def test_layers_with_a_rule_are_stacked(kind):
    model, images = tiny_model(kind), random_images(3, (1, 8, 8))
    encoders = EncoderPerImage(model, images)
    own = list(model.encoder.parameters())
    used = [p for p in own if kind != "reached" or p.ndim == 2]
    shapes = [p.movedim(1, -1).shape if p.ndim == 4 else p.shape for p in used]  # channels last
    expected = [(3, *shape) for shape in shapes] if kind in STACKED else [tuple(p.shape) for p in used] * 3
    assert [tuple(w.shape) for w in encoders.weights] == expected
    for ours, theirs in zip(encoders(images), model.encode(images), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["lr-e", "lr-z"])
def test_scores_depend_on_nothing_but_the_image(name):
    model, images = tiny_vae(), random_images(5)
    detector = oodkit.create_detector(name, model, **SMALL).fit(images)
    scores = detector.score(images)
    alone = torch.cat([detector.score(image) for image in images.split(1)])
    torch.testing.assert_close(alone, scores, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(detector.score(images.flip(0)), scores.flip(0), rtol=1e-3, atol=1e-3)
    chunked = oodkit.create_detector(name, model, batch_size=4, images_at_once=2, **SMALL).fit(images)
    torch.testing.assert_close(chunked.score(images), scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["lr-e", "lr-z"])
def test_the_model_and_the_random_state_stay_as_they_were(name):
    model, images = tiny_vae(), random_images(3)
    model.mean.weight.requires_grad_(False)  # a user may have frozen what he likes
    weights = copy.deepcopy(model.state_dict())
    wanted = {n: p.requires_grad for n, p in model.named_parameters()}
    state = torch.get_rng_state()
    oodkit.create_detector(name, model, **SMALL).fit(images).score(images)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(model.state_dict(), weights, rtol=0, atol=0)
    assert {n: p.requires_grad for n, p in model.named_parameters()} == wanted
    assert all(p.grad is None for p in model.parameters())


def test_a_frozen_encoder_is_fitted_all_the_same():
    model, images = tiny_vae(), random_images(2)
    scores = oodkit.create_detector("lr-e", model, **SMALL).fit(images).score(images)
    model.requires_grad_(False)
    assert torch.equal(oodkit.create_detector("lr-e", model, **SMALL).fit(images).score(images), scores)


@pytest.fixture(scope="module")
def trained_vae():
    """A VAE that has seen digits: on one without training there is nothing to gain."""
    digits = oodkit.load_images("digits", "train", limit=128, image_shape=(1, 32, 32))
    recipe = {"epochs": 4, "batch_size": 16, "learning_rate": 3e-3}
    return oodkit.train_model("vae", digits, width=4, latent=4, device="cpu", **recipe)


@pytest.mark.parametrize(("name", "rate"), [("lr-e", 3e-4), ("lr-z", 1e-2)])
def test_regret_is_nothing_before_the_first_step_and_grows(name, rate, trained_vae):
    digits = oodkit.load_images("digits", limit=4, image_shape=(1, 32, 32)).images
    images = torch.cat([digits, random_images(4)])
    none, few, more = [
        oodkit.create_detector(name, trained_vae, steps=steps, learning_rate=rate).fit(images).score(images)
        for steps in (0, 5, 20)
    ]
    torch.testing.assert_close(none, torch.zeros(8), rtol=0, atol=0.01)
    assert (few > 0).all()
    assert more.mean() > few.mean()


@pytest.mark.parametrize("name", ["lr-e", "lr-z"])
def test_bfloat16_moves_scores_less_than_another_seed_does(name, trained_vae):
    digits = oodkit.load_images("digits", limit=8, image_shape=(1, 32, 32)).images
    images = torch.cat([digits, random_images(8)])
    exact, rounded, other = [
        oodkit.create_detector(name, trained_vae, steps=20, **options).fit(images).score(images)
        for options in ({}, {"bfloat16": True}, {"seed": 1})
    ]
    assert not torch.equal(exact, rounded)
    assert (rounded - exact).std() < (other - exact).std() / 4


def test_an_encoder_of_many_weights_has_few_copies_at_once():
    program = """
import resource, torch, oodkit
from torch import nn

class Wide(oodkit.LatentVariableModel):
    def __init__(self):
        super().__init__((1, 8, 8), oodkit.ModelOptions())
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 60000), nn.Linear(60000, 6))
        self.decoder = nn.Linear(3, 64)

    def encode(self, images):
        return self.encoder(images / 255).chunk(2, 1)

    def log_prob_given(self, images, z):
        return -(self.decoder(z) - images.flatten(1) / 255).square().sum(1)

images = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
detector = oodkit.create_detector("lr-e", Wide(), steps=1, samples=1).fit(images)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
detector.score(images)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) < 1800  # MiB; 64 copies with their moments take 4,200


def test_regret_starts_from_the_score_of_nll():
    model, images = tiny_vae().double(), random_images(3)
    nll = oodkit.create_detector("nll", model, samples=3, seed=4).fit(images).score(images)
    generator = torch.Generator().manual_seed(4)
    noise = torch.randn(3, 1, 4, generator=generator, dtype=torch.float64)
    before = oodkit.importance_weighted(model, images, *model.encode(images), noise)
    torch.testing.assert_close(-before.detach().float(), nll)


@pytest.mark.parametrize("name", ["lr-e", "lr-z"])
def test_save_and_load(name, tmp_path):
    images = random_images(3)
    detector = oodkit.create_detector(name, tiny_vae(), seed=3, **SMALL).fit(images)
    detector.save(tmp_path / "detector.safetensors")
    loaded = oodkit.load_detector(tmp_path / "detector.safetensors", device="cpu")
    assert loaded.options == detector.options
    torch.testing.assert_close(loaded.score(images), detector.score(images))


@pytest.mark.parametrize("name", ["lr-e", "lr-z"])
def test_a_model_without_an_encoder_is_refused(name):
    class Density(oodkit.GenerativeModel):
        def log_prob(self, images):
            return images.flatten(1).sum(1)

    with pytest.raises(oodkit.PluginError, match="latent-variable"):
        oodkit.create_detector(name, Density((1, 8, 8), oodkit.ModelOptions()))


# --- the authors' weights -------------------------------------------------------------------------------------


def fashion_mnist_auroc(name, count, others, **options):
    """AUROC of `count` images a set, of the paper's Fashion-MNIST VAE."""
    sets = [oodkit.load_images(name, limit=count, image_shape=(1, 32, 32)) for name in ("fashion-mnist", *others)]
    detector = oodkit.create_detector(name, reference_vae("fashion-mnist-n32-z100-seed1"), **options).fit(sets[0])
    known, *scores = [detector.score(images) for images in sets]
    return [auroc(known, s) for s in scores]


@pytest.mark.slow
@needs_reference
@needs_data
def test_the_paper_s_lr_e():
    mnist, notmnist, omniglot = fashion_mnist_auroc("lr-e", 200, ["mnist", "notmnist", "omniglot"])
    assert math.isclose(mnist, 0.964, abs_tol=0.03)  # Choi et al. 2021, table 2
    assert notmnist >= 0.98
    assert omniglot >= 0.98
