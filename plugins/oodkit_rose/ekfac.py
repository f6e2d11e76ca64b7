"""EKFAC: F ≈ (U_A ⊗ U_B) diag(Σ) (U_A ⊗ U_B)ᵀ.

Source: Choi et al. 2021, arXiv:2106.07903, eqs. (7)–(9) and algorithm 1; George et al. 2018, arXiv:1806.03884.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from oodkit import CurvatureApproximation, LayerGradient, OptionError, damped

__all__ = ["Ekfac"]

BLOCK = 256  # columns: products this wide are as fast as whole ones


class Ekfac(CurvatureApproximation):
    """U_A and U_B: eigenvectors of A = E[h hᵀ] and B = E[δ δᵀ]; Σ = E[(U_Bᵀ s U_A)²], s the whole image's gradient.

    A parameter that is no layer's (GLOW's W) has neither h nor δ; A = E[sᵀ s] and B = E[s sᵀ] take their place.
    """

    passes: ClassVar[int] = 2

    def sums(self, gradient: LayerGradient, number: int) -> dict[str, Tensor]:
        """Return the sums of A and B in the first pass, by blocks of rows; of Σ, (O, I), in the second.

        Raises:
            OptionError: I or O is larger than `limit`.
        """
        if number == 1:
            return {"squares": self._rotated(gradient).sum_of_squares()}
        _, _, o, i = gradient.shape
        if (widest := max(o, i)) > self.options.limit:
            # float64, at once: the sum, its eigenvectors, and LAPACK's workspace of two and a half as many numbers
            raise OptionError(
                f"curvature ekfac: a layer of {o:,}x{i:,} weights is wider than limit = {self.options.limit:,}: its "
                f"eigendecomposition would take {36e-9 * widest**2:.2g} GB; choose smaller layers (layers=…), another "
                "curvature such as diag, or a larger limit."
            )
        h, d = gradient.inputs, gradient.outputs
        if not gradient.factored:  # a bare parameter, with no layer's input or output: E[sᵀ s] and E[s sᵀ]
            h = gradient.dense()
            d = h.mT
        h, d = h.flatten(0, 1), d.flatten(0, 1)
        return _gram("inputs", h) | _gram("outputs", d)

    def end_pass(self, sums: Mapping[str, Tensor], count: int, number: int) -> dict[str, Tensor]:
        """Return both bases, an axis in each row, after the first pass; the eigenvalues Σ after the second."""
        if number == 1:
            return {"eigenvalues": sums["squares"] / count}
        # float64: in float32 the small eigenvalues of a 2049-wide input come out negative; the mean has the sum's bases
        return {
            "axes_in": torch.linalg.eigh(_joined("inputs", sums), UPLO="U").eigenvectors.T,
            "axes_out": torch.linalg.eigh(_joined("outputs", sums), UPLO="U").eigenvectors.T,
        }

    def quadratic_form(self, gradient: LayerGradient) -> Tensor:
        """Return Σ_oi (U_Bᵀ s U_A)²_oi / (Σ_oi + damping), (N,): eq. (9)."""
        weight = 1 / damped(self.state["eigenvalues"], self.options)
        return torch.cat([self._rotated(part).weighted_squares(weight) for part in gradient.split()])

    def _rotated(self, gradient: LayerGradient) -> LayerGradient:
        """Return U_Bᵀ s U_A."""
        return gradient.between(self.state["axes_out"], self.state["axes_in"])


def _gram(name: str, x: Tensor) -> dict[str, Tensor]:
    """Return xᵀ x, (I, I), in blocks of rows from the diagonal on: the other half is the same."""
    starts = range(0, x.shape[1], BLOCK)
    return {f"{name}/{start}": x[:, start : start + BLOCK].T @ x[:, start:] for start in starts}


def _joined(name: str, sums: Mapping[str, Tensor]) -> Tensor:
    """Return what `_gram` gave as one matrix, (I, I), with zeros below the diagonal's blocks."""
    blocks = [block for key, block in sums.items() if key.startswith(f"{name}/")]
    width = blocks[0].shape[1]
    return torch.cat([F.pad(block, (width - block.shape[1], 0)) for block in blocks])
