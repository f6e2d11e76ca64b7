"""Every built-in plugin passes the kit that third parties get."""

import pytest

from oodkit.registry import registry
from oodkit.testing import curvature_checks, dataset_checks, detector_checks, model_checks

# What makes a detector quick enough to be checked on a few small images; the rest runs as it is.
SMALL: dict[str, dict[str, object]] = {}

DETECTORS = [(name, check) for name in registry().detectors for check in detector_checks(name, **SMALL.get(name, {}))]
MODELS = [("vae", check) for check in model_checks("vae", width=2, latent=3)]
CURVATURES = [(name, check) for name in registry().curvatures for check in curvature_checks(name)]
EMBEDDED = ["digits", "photos", "noise", "constant", "inverted", "rotated", "flipped", "dimmed"]
DATASETS = [(name, check) for name in EMBEDDED for check in dataset_checks(name)]


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, id=f"{name}-{check.__name__}") for name, check in DETECTORS + MODELS + CURVATURES + DATASETS],
)
def test_conforms(check):
    check()
