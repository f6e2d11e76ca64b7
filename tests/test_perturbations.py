"""Perturbations against numpy and scipy, one channel at a time, and against what must hold for any image."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings, strategies as st
from scipy import fft, ndimage, stats

from oodkit import DctOptions, GaussianBlurOptions, RandomOptions, SvdOptions
from oodkit.errors import ImageError, OptionError
from oodkit.perturbations import brightness, dct, gaussian_blur, perturb, random, svd

KINDS = ["svd", "dct", "gaussian-blur", "random"]
SHAPES = [(5, 1, 32, 32), (3, 3, 32, 32), (2, 3, 7, 12), (2, 1, 12, 7)]
shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 9), st.integers(2, 9))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noisy(shape):
    return torch.randint(256, shape, generator=seeded(), dtype=torch.uint8)


def smooth(shape):
    """Photograph-like: nearly all of it in a few singular values and coefficients, some of it black or white."""
    waves = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), (0, 0, 2, 2), mode="wrap")
    return torch.from_numpy((127 + 400 * waves).clip(0, 255).round().astype(np.uint8))


def assert_rounded(made, exact):
    """`made` is `exact` clipped and rounded; where it ends in .5, to either side."""
    assert made.dtype == torch.uint8
    distance = np.abs(made.numpy() - np.clip(exact, 0, 255))
    assert distance.max() <= 0.5 + 1e-9


def slow_svd(channel, drop):
    u, s, vh = np.linalg.svd(channel)
    s[len(s) - drop :] = 0
    return sum(s[i] * np.outer(u[:, i], vh[i]) for i in range(len(s)))


def slow_dct(channel, keep):
    coefficients = fft.dctn(channel, type=2, norm="ortho")
    smallest = np.sort(np.abs(coefficients), axis=None)[::-1][keep - 1]
    return fft.idctn(np.where(np.abs(coefficients) >= smallest, coefficients, 0), type=2, norm="ortho")


def slow_blur(channel, kernel, sigma):
    return ndimage.gaussian_filter(channel, sigma, mode="mirror", radius=kernel // 2)


def per_channel(function, images, *arguments):
    channels = images.double().flatten(0, 1).numpy()
    return np.stack([function(c, *arguments) for c in channels]).reshape(images.shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("make", [noisy, smooth])
def test_exact_against_slow_references(make, shape):
    images = make(shape)
    for drop in (1, 5, min(shape[2:]) - 1):
        assert_rounded(svd(images, drop), per_channel(slow_svd, images, drop))
    for keep in (1, 28, 60):
        assert_rounded(dct(images, keep), per_channel(slow_dct, images, keep))
    for kernel, sigma in ((3, 0.8), (5, 0.8), (3, 2.0), (7, 1.0)):
        assert_rounded(gaussian_blur(images, kernel, sigma), per_channel(slow_blur, images, kernel, sigma))
    for factor in (0.2, 0.5, 1.8):
        assert_rounded(brightness(images, factor), images.numpy() * factor)


@settings(deadline=None)
@given(shape=shapes)
def test_what_keeps_all_changes_nothing(shape):
    images = noisy(shape)
    _, _, height, width = shape
    for same in (
        svd(images, 0),
        dct(images, height * width),
        gaussian_blur(images, kernel=1),
        random(images, seeded(), 0),
        brightness(images, 1),
    ):
        assert torch.equal(same, images)


@settings(deadline=None)
@given(value=st.integers(0, 255), shape=shapes)
def test_a_constant_image_has_no_detail_to_lose(value, shape):
    images = torch.full(shape, value, dtype=torch.uint8)
    for same in (svd(images, min(shape[2:]) - 1), dct(images, 1), gaussian_blur(images)):
        assert torch.equal(same, images)


@settings(deadline=None)
@given(rank=st.integers(1, 4), seed=st.integers(0, 99))
def test_svd_keeps_an_image_of_the_rank_that_is_left(rank, seed):
    left = torch.randint(8, (1, 1, 9, rank), generator=seeded(seed)).double()
    right = torch.randint(8, (1, 1, rank, 7), generator=seeded(seed + 100)).double()
    image = (left @ right).to(torch.uint8)  # at most 4·7·7
    assert torch.equal(svd(image, 7 - rank), image)


@settings(deadline=None)
@given(shape=shapes, kind=st.sampled_from(KINDS))
@example(shape=(2, 2, 2, 5), kind="dct")  # a value of 59.5, up to the last bit
def test_an_image_alone_and_in_a_batch_are_the_same(shape, kind):
    images = noisy(shape)
    strength = {"svd": 1, "dct": 3}.get(kind)
    together, apart = seeded(), seeded()  # random: the stream goes on from image to image
    alone = [perturb(image[None], kind, apart, strength) for image in images]
    assert torch.equal(perturb(images, kind, together, strength), torch.cat(alone))


@pytest.mark.parametrize("mu", [0.2, 0.3, 1.0])
def test_random_replaces_a_share_mu_by_uniform_values(mu):
    images = torch.full((200, 3, 16, 16), 100, dtype=torch.uint8)
    values = random(images, seeded(), mu).flatten().numpy()
    changed = values[values != 100]
    assert changed.size / values.size == pytest.approx(mu * 255 / 256, abs=0.005)
    counts = np.bincount(changed, minlength=256)
    assert stats.chisquare(np.delete(counts, 100)).pvalue > 0.001
    places = (random(images, seeded(), mu) != 100).flatten(1).double().mean(0)  # (C·H·W,): no place is spared
    assert places.min() > mu / 3


def test_random_draws_anew_for_each_image_and_call():
    images = torch.zeros((2, 1, 32, 32), dtype=torch.uint8)
    generator = seeded()
    first, second = random(images, generator), random(images, generator)
    assert len({tuple(image.flatten().tolist()) for image in (*first, *second)}) == 4
    assert torch.equal(first, random(images, seeded()))


def test_defaults_are_the_paper_s():
    grey, colour = noisy((2, 1, 32, 32)), noisy((2, 3, 32, 32))
    for images, mu in ((grey, 0.3), (colour, 0.2)):
        assert torch.equal(perturb(images, "svd", seeded()), svd(images, 28))
        assert torch.equal(perturb(images, "dct", seeded()), dct(images, 28))
        assert torch.equal(perturb(images, "gaussian-blur", seeded()), gaussian_blur(images, 3, 0.8))
        assert torch.equal(perturb(images, "random", seeded()), random(images, seeded(), mu))
    assert torch.equal(perturb(grey, "gaussian-blur", seeded(), 2.0), gaussian_blur(grey, 3, 2.0))


@pytest.mark.parametrize("kind", [DctOptions, GaussianBlurOptions, RandomOptions, SvdOptions])
def test_an_option_s_default_is_the_function_s_own(kind):
    images = torch.randint(256, (2, 1, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    by_option, by_itself = (
        perturb(images, kind.perturbation, torch.Generator().manual_seed(1), strength)
        for strength in (kind().strength, None)
    )
    assert torch.equal(by_option, by_itself)


def test_of_equal_coefficients_the_first_is_kept():
    image = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    image[0, 0, 0, 0] = 200  # four coefficients of 100
    assert dct(image, 1).flatten().tolist() == [50, 50, 50, 50]
    assert dct(image, 2).flatten().tolist() == [100, 0, 100, 0]


def test_values_beyond_white_are_clipped_and_halves_go_to_even():
    image = torch.tensor([[[[1, 3, 200, 255]]]], dtype=torch.uint8)
    assert brightness(image, 1.8).flatten().tolist() == [2, 5, 255, 255]
    assert brightness(image, 0.5).flatten().tolist() == [0, 2, 100, 128]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_cuda_agrees_with_the_cpu(kind):
    images = smooth((50, 3, 32, 32))
    made = perturb(images.cuda(), kind, seeded())
    assert made.device.type == "cuda"
    assert torch.equal(made.cpu(), perturb(images, kind, seeded()))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x, g: svd(x, 8), OptionError, "drop is 8; images of 8x8 have 8 singular values"),
        (lambda x, g: svd(x, -1), OptionError, "drop is -1"),
        (lambda x, g: dct(x, 0), OptionError, "keep is 0"),
        (lambda x, g: gaussian_blur(x, 4), OptionError, "kernel is 4"),
        (lambda x, g: gaussian_blur(x, sigma=0.0), OptionError, r"sigma 0\.0"),
        (lambda x, g: gaussian_blur(x, 17), ImageError, "too wide for images of 8x8"),
        (lambda x, g: random(x, g, 1.5), OptionError, r"mu is 1\.5"),
        (lambda x, g: brightness(x, -1), OptionError, "factor is -1"),
        (lambda x, g: perturb(x, "blur", g), OptionError, "'blur'; there are: svd, dct, gaussian-blur, random"),
        (lambda x, g: perturb(x.double(), "svd", g), ImageError, "float64"),
        (lambda x, g: perturb(x[0], "random", g), ImageError, r"shape \(1, 8, 8\)"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call(noisy((2, 1, 8, 8)), seeded())
