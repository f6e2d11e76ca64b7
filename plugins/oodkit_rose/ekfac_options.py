"""Options of EKFAC."""

from pydantic import Field

from oodkit import DampingOptions

__all__ = ["EkfacOptions"]


class EkfacOptions(DampingOptions):
    """How wide a layer's two eigendecompositions may be."""

    limit: int = Field(
        16385,  # the widest of the paper: the heads of its VAE for colour images at four times its width
        ge=1,
        description="Inputs or outputs of a layer, at most: an eigendecomposition has as many rows and columns "
        "(16,385: 9.7 GB, and a quarter of an hour on two cores).",
    )
