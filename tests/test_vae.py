"""The VAE's likelihood against loops in float64, and how it is trained."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.func import grad, vmap

from oodkit import (
    DeviceError,
    ImageError,
    ImageSet,
    LatentVariableModel,
    ModelOptions,
    OptionError,
    PluginError,
    Trainable,
    TrainingError,
    create_model,
    optimise,
    train_model,
)
from oodkit.model import frozen, importance_weighted

SHAPES = [(1, 32, 32), (3, 32, 32)]


def small_vae(shape=(1, 32, 32), seed=0):
    """Return a VAE in float64, evaluation mode, with weights and statistics large enough for every term to count."""
    model = create_model("vae", shape, width=2, latent=3, seed=seed, device="cpu").double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.weight.mul_(12)
                if module.bias is not None:
                    module.bias.copy_(torch.randn(module.bias.shape, generator=generator))
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(0.1 * torch.randn(module.running_mean.shape, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
    return model


def random_images(n, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, channels, 32, 32), dtype=torch.uint8, generator=generator)


def logits_by_hand(model, z):
    """Return the decoder's output, (N, C, 256, H, W), in the order that the authors' weights have."""
    maps = model.decoder(z[:, :, None, None]).detach().numpy()
    return maps.reshape(len(maps), -1, 256, 32, 32)


def log_categorical(logits, images):
    """Return log p(x|z), (N,): each sub-pixel by itself, the probability of the value that it has."""
    total = np.zeros(len(images))
    for index in np.ndindex(*images.shape):
        n, c, h, w = index
        of_pixel = logits[n, c, :, h, w]
        total[n] += of_pixel[images[index]] - np.logaddexp.reduce(of_pixel)
    return total


def posterior(model, images):
    mean, log_variance = (t.detach() for t in model.encode(images))
    return Normal(mean, (log_variance / 2).exp())


PRIOR = Normal(torch.zeros((), dtype=torch.float64), 1.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_log_prob_is_the_elbo_at_the_mean(shape):
    model, images = small_vae(shape), random_images(3, shape[0])
    q = posterior(model, images)
    reconstruction = log_categorical(logits_by_hand(model, q.mean), images.numpy())
    divergence = torch.distributions.kl_divergence(q, PRIOR).sum(1).numpy()
    assert divergence.min() > 0.1
    np.testing.assert_allclose(model.log_prob(images).detach().numpy(), reconstruction - divergence, rtol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_encoder_and_decoder(shape):
    model, images = small_vae(shape), random_images(2, shape[0])
    mean, log_variance = model.encode(images)
    h = model.trunk(images.double() / 255)  # pixels in [0, 1]
    torch.testing.assert_close(mean, model.mean(h)[:, :, 0, 0])
    torch.testing.assert_close(log_variance, model.log_variance(h)[:, :, 0, 0])
    assert model.logits(mean).shape == (2, 32, 32, shape[0], 256)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_reconstruction_is_the_expectation_at_the_mean(shape):
    model, images = small_vae(shape), random_images(35, shape[0])  # more than are decoded at a time
    with torch.no_grad():
        model.decoder[-1].weight.mul_(20)  # else all expectations lie near the middle
    logits = logits_by_hand(model, model.encode(images)[0])
    found = model.reconstruct(images)
    assert found.dtype == torch.uint8
    p = np.exp(logits - np.logaddexp.reduce(logits, axis=2, keepdims=True))
    expected = sum(value * p[:, :, value] for value in range(256))
    np.testing.assert_array_equal(found.numpy(), expected.round())
    assert len(np.unique(found)) > 50


@pytest.mark.parametrize(("channels", "width", "latent"), [(1, 32, 100), (3, 64, 200)])
def test_sizes_are_the_paper_s(channels, width, latent):
    weights = create_model("vae", (channels, 32, 32), device="cpu").state_dict()
    assert weights["trunk.0.weight"].shape == (width, channels, 4, 4)
    assert weights["mean.weight"].shape == weights["log_variance.weight"].shape == (latent, 4 * width, 4, 4)
    assert weights["decoder.9.weight"].shape == (width, 256 * channels, 4, 4)


def log_weights_by_hand(model, images, noise):
    """Return log p(x|z) + log p(z) − log q(z|x), (K, N), sample by sample and image by image."""
    q = posterior(model, images)
    rows = []
    for eps in noise:
        row = []
        for n, image in enumerate(images):
            z = q.mean[n] + q.stddev[n] * eps[0]
            log_ratio = PRIOR.log_prob(z).sum() - Normal(q.mean[n], q.stddev[n]).log_prob(z).sum()
            row.append(log_categorical(logits_by_hand(model, z[None]), image[None].numpy())[0] + float(log_ratio))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("samples", [1, 4])
def test_importance_weighted_bound_against_a_loop(samples):
    model, images = small_vae(), random_images(3)
    mean, log_variance = model.encode(images)
    noise = torch.randn(samples, 1, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    fast = importance_weighted(model, images, mean, log_variance, noise).detach().numpy()
    slow = log_weights_by_hand(model, images, noise)
    largest = slow.max(0)
    np.testing.assert_allclose(fast, np.log(np.exp(slow - largest).mean(0)) + largest, rtol=1e-10)


def test_a_model_without_a_decoder_says_so():
    with pytest.raises(PluginError, match=r"Gaussian has no decode\(z\)"):
        Gaussian(1.0).reconstruct(torch.zeros(1, 1, 1, 2, dtype=torch.uint8))


class Gaussian(LatentVariableModel):
    """x ~ N(2z, ½²), z ~ N(0, I), two of each: log p(x) and p(z|x) have closed forms. q(z|x) is `stretch` too wide."""

    def __init__(self, stretch):
        super().__init__((1, 1, 2), ModelOptions())
        self.stretch = nn.Parameter(torch.tensor(stretch, dtype=torch.float64))

    def encode(self, images):
        x = images.double().flatten(1) / 255
        return 2 * x / 4.25, torch.log(self.stretch**2 * 0.25 / 4.25).expand(x.shape)

    def log_prob_given(self, images, z):
        return Normal(2 * z, 0.5).log_prob(images.double().flatten(1) / 255).sum(1)

    @staticmethod
    def exact(images):
        x = images.double().flatten(1) / 255
        return Normal(torch.zeros_like(x), 4.25**0.5).log_prob(x).sum(1)


TWO_PIXELS = torch.tensor([[0, 9], [100, 30], [255, 255], [200, 1]], dtype=torch.uint8).view(4, 1, 1, 2)


def mean_bound(samples, times=2000):
    """Return the bound of `samples` samples where q is too wide by 1.5, (4,), averaged, and its standard error."""
    model, images = Gaussian(1.5), TWO_PIXELS.repeat(times, 1, 1, 1)
    noise = torch.randn(samples, len(images), 2, generator=torch.Generator().manual_seed(samples), dtype=torch.float64)
    bounds = importance_weighted(model, images, *model.encode(images), noise).detach().view(times, 4)
    return bounds.mean(0), bounds.std(0) / times**0.5


@pytest.mark.parametrize("samples", [1, 3, 20])
def test_with_the_true_posterior_every_sample_gives_log_p(samples):
    found = Gaussian(1.0).log_likelihood(TWO_PIXELS, samples=samples, seed=samples).detach()
    torch.testing.assert_close(found, Gaussian.exact(TWO_PIXELS), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_with_frozen_weights_log_p_and_its_gradient_are_autograd_s_own(shape):
    """The frozen path makes the gradient by hand, some images at a time: five are more than one chunk of either."""
    model, images = small_vae(shape), random_images(5, shape[0])
    z = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    factors = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0], dtype=torch.float64)
    plain = model.log_prob_given(images, z)
    (expected,) = torch.autograd.grad(plain @ factors, z)
    with frozen(model):
        log_p = model.log_prob_given(images, z)
        (gradient,) = torch.autograd.grad(log_p @ factors, z)
        with torch.no_grad():
            values = model.log_prob_given(images, z)
        per_image = vmap(grad(lambda z, image: model.log_prob_given(image[None], z[None])[0]))(z.detach(), images)
        assert not torch.autograd.grad(model.log_prob_given(images, z).sum(), z)[0].requires_grad
    torch.testing.assert_close(log_p, plain, rtol=1e-12, atol=0)
    torch.testing.assert_close(values, plain, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(per_image * factors[:, None], expected, rtol=1e-9, atol=1e-9)


def test_with_frozen_weights_log_p_is_not_differentiated_twice():
    model, z = small_vae(), torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    with frozen(model):
        (gradient,) = torch.autograd.grad(model.log_prob_given(random_images(2), z).sum(), z, create_graph=True)
        with pytest.raises(NotImplementedError, match="once only"):
            gradient.sum().backward()


def test_extreme_logits_keep_log_p_finite():
    model = small_vae()
    with torch.no_grad():
        model.decoder[-1].weight.mul_(1e4)
    images, z = random_images(3), torch.ones(3, 3, dtype=torch.float64)
    expected = log_categorical(logits_by_hand(model, z), images.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(model.log_prob_given(images, z).numpy(), expected, rtol=1e-12)
    with frozen(model):  # probabilities that are zero in float64
        log_p = model.log_prob_given(images, z.requires_grad_())
    np.testing.assert_allclose(log_p.detach().numpy(), expected, rtol=1e-12)


def test_one_sample_averages_to_the_elbo():
    """log p(x) − KL(q ‖ p(z|x)), q being too wide by 1.5 in both dimensions."""
    elbo = Gaussian.exact(TWO_PIXELS) - 2 * (0.5 * (1.5**2 - 1) - np.log(1.5))
    mean, error = mean_bound(1)
    assert ((mean - elbo).abs() < 4 * error).all()


def test_the_bound_grows_with_the_samples_on_average_and_ends_at_log_p():
    means, errors = zip(*(mean_bound(k) for k in (1, 4, 16, 64)), strict=True)
    assert all((fewer < more).all() for fewer, more in pairwise(means))
    assert (means[-1] <= Gaussian.exact(TWO_PIXELS) + 4 * errors[-1]).all()
    torch.testing.assert_close(means[-1], Gaussian.exact(TWO_PIXELS), rtol=0, atol=0.01)


def test_the_estimate_is_an_image_s_own_and_the_seed_s():
    model, images = small_vae(), random_images(5)
    with torch.no_grad():
        together = model.log_likelihood(images, samples=3)
        alone = torch.cat([model.log_likelihood(image[None], samples=3) for image in images])
        torch.testing.assert_close(alone, together, rtol=1e-12, atol=0)
        assert torch.equal(model.log_likelihood(images, samples=3, seed=0), together)
        assert ((model.log_likelihood(images, samples=3, seed=1) - together).abs() > 1e-3).all()


def test_the_training_loss_is_minus_the_elbo_of_one_sample():
    model, images = small_vae(), random_images(3)
    q = posterior(model, images)
    noise = torch.randn(3, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    reconstruction = log_categorical(logits_by_hand(model, q.mean + q.stddev * noise), images.numpy())
    divergence = torch.distributions.kl_divergence(q, PRIOR).sum(1).numpy()
    loss = model.loss(images, torch.Generator().manual_seed(9))
    assert loss.item() == pytest.approx((divergence - reconstruction).mean(), rel=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_ten_statistics(shape):
    model, images = small_vae(shape), random_images(2, shape[0])
    q = posterior(model, images)
    logits = logits_by_hand(model, q.mean)
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)  # (N, C, 256, H, W)
    expected = np.einsum("ncvhw,v->nchw", p, np.arange(256) / 255)
    found = {name: values.detach().numpy() for name, values in model.statistics(images).items()}
    residual = images.numpy() / 255 - expected
    means = {side: blockwise_mean(residual, side) for side in (2, 4)}
    nll = -np.log(np.take_along_axis(p, images.numpy()[:, :, None].astype(int), 2))
    by_hand = {
        "reconstruction_nll": -log_categorical(logits, images.numpy()),
        "nll_deviation": nll.reshape(len(nll), -1).std(1, ddof=1),
        "kl": torch.distributions.kl_divergence(q, PRIOR).sum(1).numpy(),
        "entropy": -(p * np.log(p)).sum((1, 2, 3, 4)),
        "residual": np.sqrt((residual**2).sum((1, 2, 3))),
        "residual_fine": np.sqrt(((residual - means[2]) ** 2).sum((1, 2, 3))),
        "residual_middle": np.sqrt(((means[2] - means[4]) ** 2).sum((1, 2, 3))),
        "residual_coarse": np.sqrt((means[4] ** 2).sum((1, 2, 3))),
        "mean_norm": np.linalg.norm(q.mean.numpy(), axis=1),
        "deviation_norm": np.linalg.norm(q.stddev.numpy(), axis=1),
    }
    assert found.keys() == by_hand.keys()
    for name, values in by_hand.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, err_msg=name)


def blockwise_mean(x, side):
    """Return x (N, C, H, W) with each square of pixels replaced by its mean."""
    result = x.copy()
    for top in range(0, x.shape[2], side):
        for left in range(0, x.shape[3], side):
            square = (..., slice(top, top + side), slice(left, left + side))
            result[square] = x[square].mean((2, 3), keepdims=True)
    return result


# --- making one --------------------------------------------------------------------------------------------------


def test_weights_are_the_seed_s_and_the_global_random_state_is_left_alone():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, again, other = (create_model("vae", (1, 32, 32), seed=s, device="cpu").state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(again[key], value) for key, value in first.items())
    assert not torch.equal(other["mean.weight"], first["mean.weight"])
    for name, centre in (("trunk.6.weight", 0), ("decoder.3.weight", 0), ("mean.weight", 0), ("trunk.7.weight", 1)):
        values = first[name]
        assert float(values.mean()) == pytest.approx(centre, abs=0.1 * len(values.flatten()) ** -0.5)
        assert float(values.std()) == pytest.approx(0.02, rel=0.15)
    assert not first["mean.bias"].any() and not first["log_variance.bias"].any()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 64)])
def test_other_sizes_are_refused(shape):
    with pytest.raises(ImageError, match=f"takes 32x32 images, not {shape[1]}x{shape[2]}"):
        create_model("vae", shape, device="cpu")


def test_options_are_checked():
    with pytest.raises(OptionError, match=r"vae.width = 0"):
        create_model("vae", (1, 32, 32), width=0, device="cpu")


# --- training ------------------------------------------------------------------------------------------------------

# 24 images in batches of 8: three steps an epoch
RECIPE = {"epochs": 3, "batch_size": 8, "learning_rate": 2e-3}


def stripes(n=24):
    """Return images of stripes of two random shades, (n, 1, 32, 32): something to learn."""
    generator = torch.Generator().manual_seed(0)
    shades = torch.randint(256, (n, 1, 1, 1, 2), dtype=torch.uint8, generator=generator)
    return ImageSet("stripes", "train", shades.expand(n, 1, 32, 16, 2).flatten(3))


def train(seed=0, images=None, **changes):
    options = {"width": 2, "latent": 2, **RECIPE, **changes}
    return train_model("vae", images or stripes(), seed=seed, device="cpu", **options)


def same_weights(one, other):
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_the_loss_falls_and_the_record_says_what_was_done():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    model = train(epochs=8, learning_rate=1e-2)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    record = model.training_record
    bits = record["bits_per_dimension"]
    assert len(bits) == 8 and bits[0] == pytest.approx(8, abs=0.1)  # 256 values, at first all alike
    assert bits[-1] < bits[0] - 0.3 and bits == sorted(bits, reverse=True)
    assert (record["images"], record["count"], record["hash"]) == ("stripes", 24, stripes().hash)


def test_the_seed_decides_all_that_training_draws():
    model = train()
    assert same_weights(model, train())
    assert not same_weights(model, train(seed=1))


def test_no_flip_is_drawn_where_none_is_asked_for():
    mirrored = ImageSet("stripes", "train", stripes().images.flip(3))
    assert not same_weights(train(flips=False), train(flips=False, images=mirrored))


class Interrupted(Trainable):
    """A model whose training is interrupted at the step of this number."""

    def __init__(self, model, stop_at=None, stop_with=KeyboardInterrupt):
        super().__init__()
        self.model = model
        self.left, self.stop_with = stop_at, stop_with

    def loss(self, images, generator):
        if self.left == 0:
            raise self.stop_with
        self.left = None if self.left is None else self.left - 1
        return self.model.loss(images, generator)


def run(stop_at=None, checkpoint=None, seed=0, **changes):
    model = create_model("vae", (1, 32, 32), width=2, latent=2, seed=seed, device="cpu", **{**RECIPE, **changes})
    module = Interrupted(model, stop_at)
    if stop_at is None:
        return model, optimise(module, stripes(), model.options, name="vae", checkpoint=checkpoint)
    with pytest.raises(KeyboardInterrupt):
        optimise(module, stripes(), model.options, name="vae", checkpoint=checkpoint)
    return model, None


@pytest.mark.parametrize("optimizer", ["adam", "adamax"])
@pytest.mark.parametrize("stop_at", [3, 7])  # at the first step of the second epoch, and amid the third
def test_an_interrupted_training_ends_as_if_it_had_never_stopped(tmp_path, optimizer, stop_at):
    whole, record = run(optimizer=optimizer)
    checkpoint = tmp_path / "vae.checkpoint"
    run(stop_at, checkpoint, optimizer=optimizer)
    resumed, again = run(checkpoint=checkpoint, optimizer=optimizer, seed=1)  # nothing is left of its own weights
    assert same_weights(whole, resumed)
    assert again["losses"] == record["losses"]


def test_interrupted_twice(tmp_path):
    whole, _ = run()
    run(4, tmp_path / "checkpoint")
    run(4, tmp_path / "checkpoint")  # from the second epoch into the third
    resumed, _ = run(checkpoint=tmp_path / "checkpoint")
    assert same_weights(whole, resumed)


@pytest.mark.parametrize("change", [{"learning_rate": 1e-3}, {"flips": False}])
def test_a_checkpoint_of_another_training_is_ignored(tmp_path, change):
    run(7, tmp_path / "checkpoint")
    anew, record = run(checkpoint=tmp_path / "checkpoint", **change)
    expected, _ = run(**change)
    assert same_weights(anew, expected) and len(record["losses"]) == 3


def test_a_damaged_checkpoint_is_ignored(tmp_path):
    run(7, tmp_path / "checkpoint")
    data = (tmp_path / "checkpoint").read_bytes()
    (tmp_path / "checkpoint").write_bytes(data[: len(data) // 2])
    anew, _ = run(checkpoint=tmp_path / "checkpoint")
    assert same_weights(anew, run()[0])


class Recording(Trainable):
    """Keeps the first pixel of every image that it is trained on."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen = []

    def loss(self, images, generator):
        self.seen.extend(images[:, 0, 0, 0].tolist())
        return self.weight.square()


def test_every_epoch_sees_every_image_once_in_an_order_of_its_own():
    module, images = Recording(), torch.arange(24, dtype=torch.uint8).view(24, 1, 1, 1)
    optimise(module, ImageSet("numbers", "train", images), ModelOptions(**RECIPE), name="recording")
    epochs = [module.seen[24 * i : 24 * (i + 1)] for i in range(3)]
    assert all(sorted(epoch) == list(range(24)) for epoch in epochs) and len(module.seen) == 72
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


class Exploding(Trainable):
    """Its loss is NaN from the step of this number on."""

    def __init__(self, good_steps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.left = good_steps

    def loss(self, images, generator):
        self.left -= 1
        return self.weight.square() if self.left >= 0 else self.weight * torch.nan


def test_a_loss_that_is_not_finite_in_the_first_epoch_is_an_error():
    with pytest.raises(TrainingError, match=r"stripes: the loss is nan in epoch 1; choose a smaller learning_rate"):
        optimise(Exploding(2), stripes(), ModelOptions(**RECIPE), name="exploding")


def test_later_it_ends_the_training_with_the_last_good_weights():
    module = Exploding(3)
    with pytest.warns(UserWarning, match=r"the loss is nan in epoch 2.*those of epoch 1"):
        record = optimise(module, stripes(), ModelOptions(**RECIPE), name="exploding")
    assert len(record["losses"]) == 1 and "epoch 1" in record["stopped"]
    good = Exploding(3)
    optimise(good, stripes(), ModelOptions(**{**RECIPE, "epochs": 1}), name="exploding")
    assert same_weights(module, good)


def test_memory_that_runs_out_is_one_sentence_and_keeps_what_was_finished(tmp_path):
    """Not in halves, as `fit` and `score`: the batch statistics would be others."""
    whole, _ = run()
    model = create_model("vae", (1, 32, 32), width=2, latent=2, device="cpu", **RECIPE)
    module = Interrupted(model, 4, torch.OutOfMemoryError("CUDA out of memory"))
    words = r"training vae on stripes: the memory of cpu ran out with 8 images in a step; choose a smaller batch_size"
    with pytest.raises(DeviceError, match=words) as caught:
        optimise(module, stripes(), model.options, name="vae", checkpoint=tmp_path / "checkpoint")
    assert caught.value.__context__ is None, "whose traceback would hold the step's tensors"
    resumed, _ = run(checkpoint=tmp_path / "checkpoint", seed=1)
    assert same_weights(whole, resumed)
