"""What oodkit asks of both plugins, and KFAC against the dense Kronecker product, written as the papers write it."""

import pytest
import torch
from oodkit_kfac.kfac import Kfac

from oodkit import DampingOptions, LayerGradient
from oodkit.testing import curvature_checks, detector_checks

CHECKS = {
    "kfac": curvature_checks("kfac"),
    "rose-kfac": detector_checks("rose-kfac"),
    "reconstruction-error": detector_checks("reconstruction-error"),
}


@pytest.mark.parametrize(
    "check", [pytest.param(c, id=f"{name}-{c.__name__}") for name, checks in CHECKS.items() for c in checks]
)
def test_conforms(check):
    check()


@pytest.mark.parametrize("positions", [1, 4])
def test_it_is_the_inverse_of_a_kronecker_product(positions):
    damping = 1e-3
    generator = torch.Generator().manual_seed(positions)
    h = torch.randn(50, positions, 3, generator=generator, dtype=torch.float64)
    d = torch.randn(50, positions, 2, generator=generator, dtype=torch.float64)
    kfac = Kfac(DampingOptions(damping=damping))
    halves = [kfac.sums(LayerGradient(h[part], d[part]), 0) for part in (slice(0, 20), slice(20, 50))]
    kfac.state |= kfac.end_pass({key: halves[0][key] + halves[1][key] for key in halves[0]}, 50, 0)
    fast = kfac.quadratic_form(LayerGradient(h, d))

    a = sum(torch.outer(x, x) for image in h for x in image) / 50
    b = sum(torch.outer(x, x) for image in d for x in image) / (50 * positions)
    inverse = torch.linalg.inv(torch.kron(b, a) + damping * torch.eye(6, dtype=torch.float64))
    for image in range(50):
        s = sum(torch.outer(d[image, p], h[image, p]) for p in range(positions)).flatten()
        torch.testing.assert_close(fast[image], s @ inverse @ s)
