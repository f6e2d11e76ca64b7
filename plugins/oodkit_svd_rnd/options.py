"""Options of random network distillation: the same for every perturbation, but for what its strength means."""

from typing import ClassVar, Literal

from pydantic import Field

from oodkit import DetectorOptions

__all__ = ["DctOptions", "GaussianBlurOptions", "RandomOptions", "RndOptions", "SvdOptions"]


class RndOptions(DetectorOptions):
    """Networks and training."""

    perturbation: ClassVar[Literal["svd", "dct", "gaussian-blur", "random"]]

    strength: float | None = Field(None, description="Of the perturbation; None: its own default.")
    architecture: Literal["auto", "paper", "small"] = Field(
        "auto",
        description="paper: a ResNet-34 guessed by a ResNet-38; small: two blocks guessed by four, for a CPU; "
        "auto: the paper's where it is fitted on a GPU, else the small one.",
    )
    epochs: int = Field(50, ge=0, description="Passes over the training images.")
    learning_rate: float = Field(
        1e-4, gt=0, allow_inf_nan=False, description="Step size of Adam, divided by ten every 25 epochs."
    )
    fitting_images: int | None = Field(
        None, ge=1, description="Training images that are used, at most; by default all."
    )


class SvdOptions(RndOptions):
    """The images are told apart from themselves without their smallest singular values."""

    perturbation = "svd"

    strength: int = Field(28, ge=0, description="Singular values of each channel that are dropped, the smallest first.")


class DctOptions(RndOptions):
    """The images are told apart from themselves made of few cosines."""

    perturbation = "dct"

    strength: int = Field(28, ge=1, description="DCT coefficients of each channel that are kept, the largest first.")


class GaussianBlurOptions(RndOptions):
    """The images are told apart from themselves blurred."""

    perturbation = "gaussian-blur"

    strength: float = Field(
        0.8, gt=0, allow_inf_nan=False, description="σ in pixels of the Gaussian; its kernel is 3x3."
    )


class RandomOptions(RndOptions):
    """The images are told apart from themselves with values replaced at random."""

    perturbation = "random"

    strength: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Probability μ that a value is replaced by a uniform 0..255; by default 0.3 for grey images, 0.2 "
        "for colour.",
    )
