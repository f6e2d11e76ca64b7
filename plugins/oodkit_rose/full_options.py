"""Options of the exact Fisher information."""

from pydantic import Field

from oodkit import DampingOptions

__all__ = ["FullOptions"]


class FullOptions(DampingOptions):
    """Relative damping: the exact F is singular below as many images as weights, and its scale is the layer's own."""

    damping: float = Field(0.0, ge=0, allow_inf_nan=False, description="Added to every eigenvalue of F.")
    relative_damping: float = Field(
        1e-2, ge=0, allow_inf_nan=False, description="Added to every eigenvalue of F, times their mean."
    )
    limit: int = Field(
        4096,
        ge=1,
        description="Weights of a layer, at most: F has as many rows and columns (4,096: 134 MB while it is summed).",
    )
