"""Options of ROSE, beside those of the curvature approximation that it runs over."""

import math
from typing import Literal

from pydantic import Field

from oodkit import DetectorOptions

__all__ = ["RoseOptions"]


class RoseOptions(DetectorOptions):
    """How layer scores are calibrated and joined."""

    layers: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Layers (or parameters) to look at; by default the model's curvature_layers().",
    )
    fitting_images: int = Field(5000, ge=1, description="Training images that make F, at most.")
    calibration: Literal["apart", "same"] = Field(
        "apart",
        description="Images for each layer's μ and σ: training images that F did not see, or the same (the paper).",
    )
    calibration_images: int = Field(
        1000,
        ge=2,
        description='Images for μ and σ with calibration="apart": at most these, and a fifth of all.',
    )
    aggregation: Literal["max", "p-norm", "mahalanobis"] = Field(
        "max",
        description="Joins the layers: the largest normalised score; the p-norm of eq. (11), ‖ReLU(ŝ + shift)‖_p; "
        "or the Mahalanobis distance of the layers' log-scores from those of the calibration images.",
    )
    p: float = Field(math.inf, ge=1, description="p of the p-norm.")
    shift: float = Field(0.0, allow_inf_nan=False, description="β of eq. (11), with the p-norm.")
    root: bool = Field(False, description="Take √S for each layer, as the authors' code does with DIAG.")
