"""The conformance kit: what every plugin promises, as named checks for a plugin's own tests.

    import pytest
    from oodkit.testing import detector_checks

    @pytest.mark.parametrize("check", detector_checks("typical"), ids=lambda check: check.__name__)
    def test_typical_conforms(check):
        check()

`oodkit check typical` runs the same from the shell. A check that fails raises `AssertionError` with the numbers; one
that this machine cannot make raises `unittest.SkipTest`, which pytest takes for a skip. Options make a slow plugin
quick for its checks: `detector_checks("lr-e", steps=3)`.
"""

from collections.abc import Callable
from typing import Any

from oodkit.testing.curvatures import CurvatureKit
from oodkit.testing.datasets import DatasetKit
from oodkit.testing.detectors import DetectorKit
from oodkit.testing.inputs import TOLERANCE, assert_same, blobs, noise
from oodkit.testing.models import ModelKit

__all__ = [
    "TOLERANCE",
    "assert_same",
    "blobs",
    "curvature_checks",
    "dataset_checks",
    "detector_checks",
    "model_checks",
    "noise",
]

Check = Callable[[], None]


def detector_checks(name: str, **options: Any) -> list[Check]:  # Any: an option's value
    """Return the checks of a registered detector, to be run with these options."""
    return _checks(DetectorKit(name, options))


def model_checks(name: str, **options: Any) -> list[Check]:  # Any: an option's value
    """Return the checks of a registered model, on grey 32x32 images, with these options."""
    return _checks(ModelKit(name, options))


def curvature_checks(name: str, **options: Any) -> list[Check]:  # Any: an option's value
    """Return the checks of a registered curvature approximation, with these options."""
    return _checks(CurvatureKit(name, options))


def dataset_checks(name: str) -> list[Check]:
    """Return the checks of a registered data set; its files must be on this machine."""
    return _checks(DatasetKit(name))


def _checks(kit: object) -> list[Check]:
    return [getattr(kit, name) for name in vars(type(kit)) if name.startswith("check_")]
