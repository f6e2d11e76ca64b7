"""F = I: the baseline that shows what curvature adds."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from oodkit import CurvatureApproximation, LayerGradient

__all__ = ["Identity"]


class Identity(CurvatureApproximation):
    """No curvature: S is the squared norm of the gradient."""

    passes: ClassVar[int] = 0

    def sums(self, gradient: LayerGradient, number: int) -> dict[str, Tensor]:
        """Return nothing: F needs no data."""
        return {}

    def end_pass(self, sums: Mapping[str, Tensor], count: int, number: int) -> dict[str, Tensor]:
        """Return nothing: F needs no data."""
        return {}

    def quadratic_form(self, gradient: LayerGradient) -> Tensor:
        """Return ‖s‖², (N,)."""
        return gradient.squared_norm()
