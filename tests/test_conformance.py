"""Every built-in plugin passes the kit that third parties get."""

import pytest

from oodkit.registry import registry
from oodkit.testing import curvature_checks, dataset_checks, detector_checks, model_checks

# What makes a detector quick enough to be checked on a few small images; the rest runs as it is.
RND = {"architecture": "small", "epochs": 8, "learning_rate": 3e-3}
SMALL: dict[str, dict[str, object]] = {
    "lr-e": {"steps": 3},
    "lr-z": {"steps": 3},
    "rnd-svd": RND,
    "rnd-dct": RND,
    "rnd-gaussian-blur": RND,
    "rnd-random": RND,
    "rose-full": {"layers": ["trunk.0", "log_variance"]},
    "rose-plus-full": {"layers": ["trunk.0", "log_variance"]},
    "score-test-full": {"layers": ["trunk.0", "log_variance"]},
    "waic": {"members": 2, "epochs": 1},
}

# On the kit's model, 6 epochs old, regret ranks inverted images below its own: a fitted posterior gains most where the
# encoder is still poor. (lr-e, 20 steps: 0.00 of the pairs are in order after 6 epochs, 0.67 after 20.) The
# sign is checked with the authors' trained weights, in the slow test of test_likelihood_regret.py.
NOT_ON_A_TINY_MODEL = {("lr-e", "check_higher_is_more_ood"), ("lr-z", "check_higher_is_more_ood")}
# WAIC's variance is of nats squared: of two members that few images have trained, it drowns the mean, on ordinary
# images too. What it computes is checked in test_density_detectors.py.
NOT_ON_A_TINY_MODEL |= {("waic", "check_higher_is_more_ood")}
# An inverted image makes as long a file as the image itself; test_density_detectors.py checks the sign on noise.
NOT_BY_NATURE = {("complexity", "check_higher_is_more_ood")}

DETECTORS = [
    (name, check)
    for name in registry().detectors
    for check in detector_checks(name, **SMALL.get(name, {}))
    if (name, check.__name__) not in NOT_ON_A_TINY_MODEL | NOT_BY_NATURE
]
MODELS = [("vae", check) for check in model_checks("vae", width=2, latent=3)]
MODELS += [("glow", check) for check in model_checks("glow", steps=2, hidden=4)]
CURVATURES = [(name, check) for name in registry().curvatures for check in curvature_checks(name)]
EMBEDDED = ["digits", "photos", "noise", "constant", "inverted", "rotated", "flipped", "dimmed"]
DERIVED = ["mirrored", "jpeg"]
DATASETS = [(name, check) for name in EMBEDDED + DERIVED for check in dataset_checks(name)]


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, id=f"{name}-{check.__name__}") for name, check in DETECTORS + MODELS + CURVATURES + DATASETS],
)
def test_conforms(check):
    check()
