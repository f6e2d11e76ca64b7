"""The plots of a report."""

import re

import numpy as np
import pytest

from oodkit.bench.metrics import auroc
from oodkit.bench.report import plots


@pytest.mark.parametrize("tied", [False, True])
def test_the_area_under_the_drawn_curve_is_the_auroc(tied):
    rng = np.random.default_rng(0)
    known, other = rng.normal(size=90), rng.normal(1, 1, size=70)
    if tied:
        known, other = known.round(), other.round()
    (path,) = re.findall(r'class="line c3" d="M([^"]+)"', plots.roc("x", [(3, known, other)]))
    points = np.array([[float(n) for n in point.split()] for point in path.split("L")])
    x = (points[:, 0] - points[0, 0]) / (points[-1, 0] - points[0, 0])
    y = (points[:, 1] - points[0, 1]) / (points[-1, 1] - points[0, 1])
    area = (np.diff(x) * (y[1:] + y[:-1]) / 2).sum()
    assert area == pytest.approx(auroc(known, other), abs=0.006)  # drawn to a tenth of a pixel


def test_plots_bear_scores_without_a_range():
    for known, other in (
        ([1.0] * 3, [1.0] * 2),
        ([np.inf] * 2, [0.0]),
        ([1.0, 2.0], [np.inf] * 4),
        ([1e-3, 1e9], [0.0]),
    ):
        assert "nan" not in plots.histogram("x", np.array(known), np.array(other))
        assert "nan" not in plots.roc("x", [(0, np.array(known), np.array(other))])
