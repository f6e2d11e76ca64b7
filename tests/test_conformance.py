"""Every built-in plugin passes the kit that third parties get."""

import pytest

from oodkit.registry import registry
from oodkit.testing import curvature_checks, dataset_checks, detector_checks, model_checks

# What makes a detector quick enough to be checked on a few small images; the rest runs as it is.
RND = {"architecture": "small", "epochs": 8, "learning_rate": 3e-3}
SMALL: dict[str, dict[str, object]] = {
    "lr-e": {"steps": 3},
    "lr-z": {"steps": 3, "learning_rate": 0.3},
    "rnd-svd": RND,
    "rnd-dct": RND,
    "rnd-gaussian-blur": RND,
    "rnd-random": RND,
    "rose-full": {"layers": ["trunk.0", "log_variance"]},
    "rose-plus-full": {"layers": ["trunk.0", "log_variance"]},
    # F of so few images has eigenvalues that are noise: undamped, the share of pairs hangs on the processor (0.88).
    "score-test-ekfac": {"relative_damping": 0.1},
    "score-test-full": {"layers": ["trunk.0", "log_variance"]},
    "waic": {"members": 2, "epochs": 12},  # its variance is of nats squared: members must agree on what they know
}

DETECTORS = [(name, check) for name in registry().detectors for check in detector_checks(name, **SMALL.get(name, {}))]
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
