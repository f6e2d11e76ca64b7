"""Options of random network distillation: the same for every perturbation, but for what its strength means."""

from typing import Literal

from pydantic import Field

from oodkit import DctOptions, GaussianBlurOptions, PerturbationOptions, RandomOptions, SvdOptions

__all__ = ["RndDctOptions", "RndGaussianBlurOptions", "RndOptions", "RndRandomOptions", "RndSvdOptions"]


class RndOptions(PerturbationOptions):
    """Networks and training."""

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


class RndSvdOptions(SvdOptions, RndOptions):
    """The images are told apart from themselves without their smallest singular values."""


class RndDctOptions(DctOptions, RndOptions):
    """The images are told apart from themselves made of few cosines."""


class RndGaussianBlurOptions(GaussianBlurOptions, RndOptions):
    """The images are told apart from themselves blurred."""


class RndRandomOptions(RandomOptions, RndOptions):
    """The images are told apart from themselves with values replaced at random."""
