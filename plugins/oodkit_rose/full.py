"""FULL: F = E[s sᵀ] itself, for layers that are small enough.

Source: Choi et al. 2021, arXiv:2106.07903, eq. (5), without an approximation.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from oodkit import CurvatureApproximation, LayerGradient, OptionError, damped

__all__ = ["Full"]


class Full(CurvatureApproximation):
    """The eigenvectors and eigenvalues of E[s sᵀ], s a whole layer's gradient as one vector of P = O·I numbers.

    With fewer images than P, F has a null space. The eigendecomposition of the sum finds it like any other part, so
    that the Woodbury identity, which would have to keep every image's gradient, has nothing to add.
    """

    def sums(self, gradient: LayerGradient, number: int) -> dict[str, Tensor]:
        """Return the sum of s sᵀ, (P, P), float64.

        Raises:
            OptionError: the layer has more weights than `limit`.
        """
        _, _, o, i = gradient.shape
        if o * i > self.options.limit:
            raise OptionError(
                f"curvature full: a layer of {o}x{i} = {o * i:,} weights is larger than limit = "
                f"{self.options.limit:,}; choose smaller layers (layers=…), another curvature such as ekfac, or a "
                "larger limit."
            )
        s = gradient.dense().flatten(1).double()  # float64: a null space is to come out as one
        return {"products": s.T @ s}

    def end_pass(self, sums: Mapping[str, Tensor], count: int, number: int) -> dict[str, Tensor]:
        """Return the eigenvectors, (P, P), one in each column, and the eigenvalues, (P,), of E[s sᵀ]."""
        eigenvalues, eigenvectors = torch.linalg.eigh(sums["products"] / count)
        return {"eigenvalues": eigenvalues.clamp_min(0), "eigenvectors": eigenvectors}

    def quadratic_form(self, gradient: LayerGradient) -> Tensor:
        """Return Σ_p (v_p·s)² / (λ_p + damping), (N,): sᵀ F⁻¹ s."""
        rotated = gradient.dense().flatten(1) @ self.state["eigenvectors"]  # (N, P)
        return rotated.square() @ (1 / damped(self.state["eigenvalues"], self.options))
