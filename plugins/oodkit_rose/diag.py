"""DIAG: F ≈ diag(E[s²]). Source: Choi et al. 2021, arXiv:2106.07903, eq. (6)."""

from collections.abc import Mapping

from torch import Tensor

from oodkit import CurvatureApproximation, LayerGradient, damped

__all__ = ["Diag"]


class Diag(CurvatureApproximation):
    """The mean squared gradient of each weight."""

    def sums(self, gradient: LayerGradient, number: int) -> dict[str, Tensor]:
        """Return the sum of s², (O, I)."""
        return {"squares": gradient.sum_of_squares()}

    def end_pass(self, sums: Mapping[str, Tensor], count: int, number: int) -> dict[str, Tensor]:
        """Return the mean of s², (O, I)."""
        return {"diagonal": sums["squares"] / count}

    def quadratic_form(self, gradient: LayerGradient) -> Tensor:
        """Return Σ_oi s²_oi / (E[s²]_oi + damping), (N,)."""
        return gradient.weighted_squares(1 / damped(self.state["diagonal"], self.options))
