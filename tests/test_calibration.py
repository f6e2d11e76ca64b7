"""p-values of scores, and the false-alarm rate of what is called OOD."""

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

import oodkit
from oodkit import ImageError, NotFittedError, OptionError, benjamini_hochberg
from oodkit.calibration import p_values

SHAPE = (1, 2, 2)


class Dark(oodkit.GenerativeModel):
    """log p(x) = −(sum of the values) · level: the brighter, the more OOD."""

    def __init__(self):
        super().__init__(SHAPE, oodkit.ModelOptions())
        self.level = nn.Parameter(torch.tensor(1.0))

    def log_prob(self, images):
        return -self.level * images.flatten(1).float().sum(1)


def detector():
    return oodkit.create_detector("elbo", Dark(), device="cpu").fit(images(3))


def images(count, seed=0, top=256):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, top, (count, *SHAPE), generator=generator, dtype=torch.uint8)


SCORES = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=30)


@given(known=SCORES, new=SCORES)
def test_p_values_count_ties_against_the_image(known, new):
    found = p_values(torch.tensor(new), torch.tensor(known).sort().values)
    expected = [(1 + sum(k >= s for k in known)) / (len(known) + 1) for s in new]
    assert found.tolist() == pytest.approx(expected)
    assert (found >= 1 / (len(known) + 1)).all() and (found <= 1).all()


def test_p_values_are_uniform_on_exchangeable_images():
    """Over many splits of one pool: P(p ≤ α) ≤ α, and within 1/(n+1) below it, at every α; the pool has no ties."""
    generator = torch.Generator().manual_seed(0)
    pool, splits, n = torch.randn(60, generator=generator), 4000, 19
    p = torch.empty(splits, dtype=torch.float64)
    for i in range(splits):
        order = torch.randperm(60, generator=generator)
        p[i] = p_values(pool[order[n : n + 1]], pool[order[:n]].sort().values)[0]
    shares = torch.stack([(p <= k / (n + 1) + 1e-9).double().mean() for k in range(1, n + 1)])
    expected = torch.arange(1, n + 1) / (n + 1)
    # 4 standard errors of a share of 4,000
    assert ((shares - expected).abs() < 4 * (expected * (1 - expected) / splits).sqrt()).all(), shares


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.29])
def test_predict_keeps_its_false_alarm_rate(alpha):
    pool, found = images(4000), []
    fitted = detector()
    for split in range(80):
        order = torch.randperm(4000, generator=torch.Generator().manual_seed(split))
        fitted.calibrate(pool[order[:99]])
        found.append(fitted.predict(pool[order[99:599]], alpha).double().mean())
    rate = torch.stack(found).mean()
    # A calibration set of 99 moves the rate of one split by about sqrt(α(1 − α)/100).
    assert alpha - 0.02 < rate < alpha + 4 * math.sqrt(alpha * (1 - alpha) / 100 / 80), rate


@given(seed=st.integers(0, 99), count=st.integers(1, 60), alpha=st.floats(0.01, 0.99))
def test_threshold_is_where_predict_begins(seed, count, alpha):
    fitted = detector().calibrate(images(count, seed, top=6))
    fitted.alpha = alpha
    new = images(40, seed + 1, top=9)
    if alpha * (count + 1) < 1:
        assert fitted.threshold == math.inf
    else:
        assert torch.equal(fitted.predict(new), fitted.score(new) > fitted.threshold)


def test_too_few_calibration_images_call_nothing_ood_and_say_so():
    fitted = detector().calibrate(images(18))
    with pytest.warns(UserWarning, match="calibrate on at least 19"):
        assert not fitted.predict(torch.full((2, *SHAPE), 255, dtype=torch.uint8)).any()


def test_calibration_and_alpha_are_saved(tmp_path):
    model = oodkit.train_model("vae", images(8).repeat(1, 1, 16, 16), width=2, latent=2, epochs=0)
    fitted = oodkit.create_detector("elbo", model).fit(images(8).repeat(1, 1, 16, 16))
    held, new = images(40, 1).repeat(1, 1, 16, 16), images(9, 2).repeat(1, 1, 16, 16)
    fitted.calibrate(held).alpha = 0.3
    fitted.save(tmp_path / "detector.oodkit")
    again = oodkit.load_detector(tmp_path / "detector.oodkit", device="cpu")
    assert (again.alpha, again.threshold) == (fitted.alpha, fitted.threshold)
    assert torch.equal(again.p_value(new), fitted.p_value(new))


def test_what_is_missing_is_said():
    fresh = oodkit.create_detector("elbo", Dark(), device="cpu")
    with pytest.raises(NotFittedError, match="not fitted"):
        fresh.calibrate(images(3))
    fitted = fresh.fit(images(3))
    with pytest.raises(NotFittedError, match="not calibrated"):
        fitted.p_value(images(3))
    with pytest.raises(OptionError, match="between 0 and 1"):
        fitted.calibrate(images(30)).predict(images(3), alpha=5)
    with pytest.raises(ImageError):
        fitted.calibrate(images(3).float())
    fitted.fit(images(4))
    with pytest.raises(NotFittedError, match="not calibrated"):  # calibrated on the scores of another fit
        fitted.predict(images(3))


@given(p=st.lists(st.integers(1, 40).map(lambda k: k / 40), min_size=1, max_size=20), alpha=st.floats(0.01, 0.9))
def test_benjamini_hochberg_by_its_definition(p, alpha):
    m, ascending = len(p), sorted(p)
    k = max((i for i in range(1, m + 1) if ascending[i - 1] <= alpha * i / m), default=0)
    expected = [k > 0 and value <= ascending[k - 1] for value in p]
    assert benjamini_hochberg(torch.tensor(p, dtype=torch.float64), alpha).tolist() == expected


def test_benjamini_hochberg_keeps_its_false_discovery_rate():
    """Half of 40 images OOD, p-values from one calibration set of 199, 400 draws: the rate stays below alpha."""
    generator, shares = torch.Generator().manual_seed(0), []
    for _ in range(400):
        calibration = torch.randn(199, generator=generator).sort().values
        scores = torch.randn(40, generator=generator) + 3 * (torch.arange(40) < 20)
        called = benjamini_hochberg(p_values(scores, calibration), 0.2)
        shares.append(float(called[20:].sum()) / max(1, int(called.sum())))
    assert 0.05 < sum(shares) / len(shares) < 0.13  # its expectation is alpha times the share of ID images, 0.1
