"""Densities of a few numbers per image, against loops in plain NumPy and the libraries that define them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from scipy.stats import gaussian_kde, multivariate_normal
from sklearn.covariance import ledoit_wolf
from sklearn.mixture import GaussianMixture

from oodkit import DensityOptions, ImageError, fit_density, load_density

KINDS = ("mahalanobis", "tails", "kde", "mixture")
K = 4


def values(count, seed=0):
    """Return (count, 4): two correlated positive numbers over many orders, one of any sign, one of whole numbers."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=count)
    return torch.from_numpy(
        np.stack(
            [
                np.exp(3 + 2 * shared),
                np.exp(-9 + shared + 0.3 * rng.normal(size=count)),
                -5 + 2 * rng.normal(size=count),
                rng.integers(-3, 4, size=count).astype(float),
            ],
            1,
        )
    )


def standardised(fitted, rows):
    """The common scale, one number at a time."""
    result = np.empty(rows.shape)
    for k in range(fitted.shape[1]):
        column, other = fitted[:, k].numpy(), rows[:, k].numpy()
        if min(column) > 0:
            column, other = np.log(column), np.log(np.maximum(other, np.finfo(np.float64).tiny))
        result[:, k] = (other - np.mean(column)) / np.std(column, ddof=1)
    return result


def by_hand(kind, fitted, rows):
    u, v = standardised(fitted, fitted), standardised(fitted, rows)
    if kind == "mahalanobis":
        precision = np.linalg.inv(ledoit_wolf(u, assume_centered=True)[0])
        return [row @ precision @ row for row in v]
    if kind == "kde":
        kernels = [gaussian_kde(u[:, k], bw_method=len(u) ** -0.2 / np.std(u[:, k], ddof=1)) for k in range(K)]
        return [-sum(kernel.logpdf(x)[0] for kernel, x in zip(kernels, row, strict=True)) for row in v]
    if kind == "mixture":
        mixture = GaussianMixture(4, reg_covar=1e-3, random_state=0, max_iter=200).fit(u)
        parts = [multivariate_normal(m, c) for m, c in zip(mixture.means_, mixture.covariances_, strict=True)]
        return [-np.log(sum(w * p.pdf(row) for w, p in zip(mixture.weights_, parts, strict=True))) for row in v]
    return [sum(tail_by_hand(u[:, k], x) for k, x in enumerate(row)) for row in v]


def tail_by_hand(known, x):
    n, far = len(known), max(1, round(0.05 * len(known)))
    known = sorted(known)
    tail = 2 * (1 + min(sum(x <= y for y in known), sum(x >= y for y in known))) / (n + 1)
    score = -math.log(min(1, tail))
    if x > known[-1]:
        score += (x - known[-1]) / (sum(known[-far:]) / far - known[-far - 1])
    if x < known[0]:
        score += (known[0] - x) / (known[far] - sum(known[:far]) / far)
    return score


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_a_loop(kind):
    fitted, rows = values(160), torch.cat([values(12, 1), values(4, 2) * torch.tensor([3, 0.2, -2, 1])])
    rows[0, 0] = 0  # where all fitting values are positive
    if kind == "mixture":
        rows = rows[1:]  # its reference takes exp of the density
    scores = fit_density(fitted, DensityOptions(density=kind, components=4)).score(rows)
    np.testing.assert_allclose(scores.numpy(), by_hand(kind, fitted, rows), rtol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1000), count=st.integers(8, 40))
def test_rows_do_not_know_each_other(kind, seed, count):
    density, rows = fit_density(values(count, seed), DensityOptions(density=kind)), values(5, seed + 1)
    alone = torch.cat([density.score(row[None]) for row in rows])
    torch.testing.assert_close(density.score(rows), alone, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(density.score(rows.flip(0)).flip(0), alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1000), power=st.floats(0.2, 5), factor=st.floats(1e-3, 1e3))
def test_units_do_not_matter(kind, seed, power, factor):
    """A positive number's power and factor, and another's offset and factor, leave every score as it was."""
    fitted, rows = values(30, seed), values(4, seed + 1)

    def changed(x):
        first, second, third, fourth = x.T
        return torch.stack([factor * first**power, second, third * factor - 2, fourth], 1)

    options = DensityOptions(density=kind)
    before, after = fit_density(fitted, options).score(rows), fit_density(changed(fitted), options).score(changed(rows))
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["mahalanobis", "tails", "kde"])
def test_contributions_add_up(kind):
    density, rows = fit_density(values(60), DensityOptions(density=kind)), values(9, 1)
    torch.testing.assert_close(density.contributions(rows).sum(1), density.score(rows))


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_that_is_off_contributes_most(kind):
    density, rows = fit_density(values(200), DensityOptions(density=kind)), values(4, 1)
    for k in range(K):
        off = rows.clone()
        off[:, k] = off[:, k] * 1e4 + 1e2
        assert (density.contributions(off).argmax(1) == k).all(), k
        assert (density.score(off) > density.score(rows)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_farther_out_is_never_tied(kind):
    density = fit_density(values(60), DensityOptions(density=kind))
    row = values(60).median(0).values
    out = torch.stack([torch.cat([row[:2], row[2:3] + step, row[3:]]) for step in (20.0, 40.0, 80.0, 160.0)])
    assert (density.score(out).diff() > 0).all()


def test_shrinkage_of_one_takes_the_numbers_for_independent():
    fitted, rows = values(60), values(9, 1)
    scores = fit_density(fitted, DensityOptions(shrinkage=1)).score(rows)
    np.testing.assert_allclose(scores.numpy(), (standardised(fitted, rows) ** 2).sum(1), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_state_is_all_that_was_learnt(kind):
    options = DensityOptions(density=kind)
    density, rows = fit_density(values(60), options), values(9, 1)
    state = {key: value.clone() for key, value in density.state.items()}
    assert torch.equal(load_density(state, options).score(rows), density.score(rows))
    assert all(value.dtype in (torch.float64, torch.bool) for value in state.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_never_varies_and_one_that_is_told_twice(kind):
    fitted, rows = values(60), values(9, 1)
    more = [torch.cat([x, torch.full((len(x), 1), 7.0), x[:, :1]], 1) for x in (fitted, rows)]
    assert fit_density(more[0], DensityOptions(density=kind)).score(more[1]).isfinite().all()


@pytest.mark.parametrize(
    ("bad", "words"), [(values(2), "at least 3 images"), (values(9).where(values(9) < 0, math.inf), "not finite")]
)
def test_bad_values_are_refused(bad, words):
    with pytest.raises(ImageError, match=words):
        fit_density(bad, DensityOptions())
