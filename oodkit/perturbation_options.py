"""Options of detectors that look at perturbed images: which of the four perturbations, and how strong.

A plugin extends `PerturbationOptions` by what it has beside them, and joins that with each of the four:

    class RndSvdOptions(SvdOptions, RndOptions): ...

No torch here, as in `options.py`.
"""

from typing import ClassVar, Literal

from pydantic import Field

from oodkit.options import DetectorOptions

__all__ = ["DctOptions", "GaussianBlurOptions", "Perturbation", "PerturbationOptions", "RandomOptions", "SvdOptions"]

Perturbation = Literal["svd", "dct", "gaussian-blur", "random"]


class PerturbationOptions(DetectorOptions):
    """What `oodkit.perturbations.perturb` is called with."""

    perturbation: ClassVar[Perturbation]

    strength: float | None = Field(None, description="Of the perturbation; None: its own default.")


class SvdOptions(PerturbationOptions):
    """Images without their smallest singular values."""

    perturbation = "svd"

    strength: int = Field(28, ge=0, description="Singular values of each channel that are dropped, the smallest first.")


class DctOptions(PerturbationOptions):
    """Images made of few cosines."""

    perturbation = "dct"

    strength: int = Field(28, ge=1, description="DCT coefficients of each channel that are kept, the largest first.")


class GaussianBlurOptions(PerturbationOptions):
    """Blurred images."""

    perturbation = "gaussian-blur"

    strength: float = Field(
        0.8, gt=0, allow_inf_nan=False, description="σ in pixels of the Gaussian; its kernel is 3x3."
    )


class RandomOptions(PerturbationOptions):
    """Images with values replaced at random."""

    perturbation = "random"

    strength: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Probability μ that a value is replaced by a uniform 0..255; by default 0.3 for grey images and "
        "0.2 for colour, which the paper chose by MNIST's AUROC.",
    )
