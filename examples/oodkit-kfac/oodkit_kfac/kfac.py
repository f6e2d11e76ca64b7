"""KFAC: F ≈ A ⊗ B, with A = E[Σ h hᵀ] over a layer's positions and B the mean of δ δᵀ over images and positions.

Source: Martens & Grosse 2015, arXiv:1503.05671; for convolutions Grosse & Martens 2016, arXiv:1602.01407, eq. (14).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from oodkit import CurvatureApproximation, LayerGradient, damped

__all__ = ["Kfac"]


class Kfac(CurvatureApproximation):
    """The eigenvalues of F are the products of those of A and B; EKFAC measures them instead."""

    def sums(self, gradient: LayerGradient, number: int) -> dict[str, Tensor]:
        """Return the sums over images and positions of h hᵀ, (I, I), and of δ δᵀ, (O, O), and of positions."""
        h, d = gradient.inputs.flatten(0, 1), gradient.outputs.flatten(0, 1)
        return {"inputs": h.T @ h, "outputs": d.T @ d, "positions": h.new_tensor(float(len(h)))}

    def end_pass(self, sums: Mapping[str, Tensor], count: int, number: int) -> dict[str, Tensor]:
        """Return the eigenbases of A and B, an axis in each row, and the products of their eigenvalues, (O, I)."""
        a, basis_in = torch.linalg.eigh(sums["inputs"] / count)
        b, basis_out = torch.linalg.eigh(sums["outputs"] / sums["positions"])
        # A second moment has no negative eigenvalue: what eigh returns below zero is rounding.
        eigenvalues = torch.outer(b.clamp_min(0), a.clamp_min(0))
        return {"basis_in": basis_in.T, "basis_out": basis_out.T, "eigenvalues": eigenvalues}

    def quadratic_form(self, gradient: LayerGradient) -> Tensor:
        """Return Σ_oi (U_Bᵀ s U_A)²_oi / (b_o a_i + damping), (N,)."""
        rotated = gradient.between(self.state["basis_out"], self.state["basis_in"])
        return rotated.weighted_squares(1 / damped(self.state["eigenvalues"], self.options))
