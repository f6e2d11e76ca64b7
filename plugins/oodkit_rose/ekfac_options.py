"""Options of EKFAC."""

from pydantic import Field

from oodkit import DampingOptions

__all__ = ["EkfacOptions"]


class EkfacOptions(DampingOptions):
    """How wide a layer's two eigendecompositions may be."""

    limit: int = Field(
        8192,
        ge=1,
        description="Inputs or outputs of a layer, at most: an eigendecomposition has as many rows and columns (8,192: "
        "2.4 GB, and minutes on two cores).",
    )
