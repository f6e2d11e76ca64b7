"""FULL: the exact Fisher information of a layer, against dense linear algebra in numpy."""

import numpy as np
import pytest
import torch

from oodkit import (
    CurvatureOptions,
    GenerativeModel,
    OptionError,
    create_detector,
    fit_curvature,
    layer_gradients,
    train_model,
)
from oodkit.registry import load_target, registry
from oodkit.testing import blobs, noise


@pytest.fixture(scope="module")
def vae() -> GenerativeModel:
    """Return a VAE whose encoder's layers have 32, 128, 512, 258 and 258 weights, in float64."""
    return train_model("vae", blobs(32), width=2, latent=2, epochs=1, device="cpu").double()


def full(**options):
    entry = registry().curvature("full").spec
    parsed: CurvatureOptions = load_target(entry.options, "full").parse("full", options)
    return load_target(entry.target, "full")(parsed)


def dense_gradients(model, images, layer):
    return layer_gradients(model, images, [layer])[layer].dense().flatten(1).numpy()  # (N, P)


@pytest.mark.parametrize(
    ("layer", "count"),
    [("trunk.0", 20), ("mean", 60), ("trunk.0", 60)],
    ids=["fewer images than weights", "fewer, with a bias", "more images than weights"],
)
def test_agrees_with_a_dense_solve(vae, layer, count):
    images, test = blobs(count, seed=1), torch.cat([blobs(5, seed=2).images, noise(3).images])
    curvature = full(damping=1e-6, relative_damping=1e-3)
    fit_curvature(vae, images, {layer: curvature}, batch_size=16)
    actual = curvature.quadratic_form(layer_gradients(vae, test, [layer])[layer])

    s, t = dense_gradients(vae, images.images, layer), dense_gradients(vae, test, layer)
    fisher = s.T @ s / count
    # The trace is the sum of the eigenvalues, so their mean needs no eigendecomposition.
    fisher += (1e-6 + 1e-3 * np.trace(fisher) / len(fisher)) * np.eye(len(fisher))
    expected = np.einsum("np,pn->n", t, np.linalg.solve(fisher, t.T))
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-7)


def test_images_of_f_score_as_many_as_its_rank_on_average(vae):
    # E[sᵀ F⁺ s] = trace(F⁺ F) = rank, over the images that made F; next to no damping stands for F⁺.
    images, layer = blobs(20, seed=1), "trunk.0"
    curvature = full(relative_damping=1e-9)
    fit_curvature(vae, images, {layer: curvature}, batch_size=16)
    scores = curvature.quadratic_form(layer_gradients(vae, images.images, [layer])[layer])
    rank = np.linalg.matrix_rank(dense_gradients(vae, images.images, layer))
    assert scores.mean().item() == pytest.approx(rank, rel=1e-3)


def test_a_layer_that_is_too_large_is_refused_with_its_size_and_the_limit(vae):
    detector = create_detector("rose-full", vae, limit=500)
    with pytest.raises(OptionError, match=r"8x64 = 512 weights is larger than limit = 500"):
        detector.fit(blobs(32))


def test_rose_full_finds_noise(vae):
    detector = create_detector("rose-full", vae).fit(blobs(64, seed=1))
    known, unknown = detector.score(blobs(8, seed=4)), detector.score(noise(8))
    assert unknown.min() > known.max()
