"""Options of ROSE's detectors, beside those of the curvature approximation that they run over."""

import math
from typing import Literal

from pydantic import Field

from oodkit import DensityOptions, DetectorOptions

__all__ = ["GradientNormOptions", "LayerOptions", "RoseOptions", "RosePlusOptions", "ScoreTestOptions"]

LAYERS = "Names or patterns (trunk.*) of layers or parameters to look at; by default the model's curvature_layers()."


class LayerOptions(DetectorOptions):
    """Which layers, and which images make F and which calibrate the layers."""

    layers: tuple[str, ...] | None = Field(None, min_length=1, description=LAYERS)
    fitting_images: int = Field(5000, ge=1, description="Training images that make F, at most.")
    calibration: Literal["apart", "same"] = Field(
        "apart",
        description="Images that the layers are calibrated on: training images that F did not see, or the same (the "
        "paper).",
    )
    calibration_images: int = Field(
        1000,
        ge=2,
        description='Images for that with calibration="apart": at most these, and a fifth of all.',
    )


class RoseOptions(LayerOptions):
    """How layer scores are joined."""

    aggregation: Literal["max", "p-norm", "mahalanobis"] = Field(
        "max",
        description="Joins the layers: the largest normalised score; the p-norm of eq. (11), ‖ReLU(ŝ + shift)‖_p; "
        "or the Mahalanobis distance of the layers' log-scores from those of the calibration images.",
    )
    p: float = Field(math.inf, ge=1, description="p of the p-norm.")
    shift: float = Field(0.0, allow_inf_nan=False, description="β of eq. (11), with the p-norm.")
    root: bool = Field(False, description="Take √S for each layer, as the authors' code does with DIAG.")


class RosePlusOptions(LayerOptions, DensityOptions):
    """What joins the layers, and which density of all; the defaults were chosen on in-distribution images alone."""

    density: Literal["mahalanobis", "tails", "kde", "mixture"] = Field(
        "mixture", description="Of all the numbers: see `oodkit show statistics-density`."
    )
    lengths: tuple[Literal["png", "jp2", "jpeg"], ...] = Field(
        ("png", "jp2", "jpeg"),
        description="Lengths of the image as a compressed file that join the model's statistics: png, jp2, jpeg.",
    )


class ScoreTestOptions(LayerOptions, DensityOptions):
    """The two tests' p-values."""

    density: Literal["mahalanobis", "tails", "kde", "mixture"] = Field(
        "tails", description="tails: −log of the two p-values, added (Fisher's method); the others are no test."
    )


class GradientNormOptions(DensityOptions):
    """Which layers, and how they depend on each other."""

    layers: tuple[str, ...] | None = Field(None, min_length=1, description=LAYERS)
    shrinkage: float | None = Field(
        1.0, ge=0, le=1, description="1: the layers are independent, as the paper; none: Ledoit and Wolf's."
    )
    fitting_images: int = Field(5000, ge=3, description="Training images that the density is fitted to, at most.")
