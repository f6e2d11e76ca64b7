"""Options of the likelihood ratio: the same for every perturbation, but for what its strength means."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from oodkit import DetectorOptions

__all__ = ["DctOptions", "GaussianBlurOptions", "LikelihoodRatioOptions", "RandomOptions", "SvdOptions"]


class LikelihoodRatioOptions(DetectorOptions):
    """How the background model is made, and how both likelihoods are estimated."""

    perturbation: ClassVar[Literal["svd", "dct", "gaussian-blur", "random"]]

    strength: float | None = Field(None, description="Of the perturbation; None: its own default.")
    weight_decay: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="L2 penalty on the background's weights (λ); by default the model's own: for the VAE 0, as the "
        "paper's; for GLOW 0 or 5e-5, where the paper's on Fashion-MNIST is 0.01.",
    )
    epochs: int | None = Field(
        None, ge=0, description="Epochs of the background's training; by default the model's own."
    )
    background: Path | None = Field(
        None, description="A saved model, of the same make, to take as the background instead of training one."
    )
    samples: int = Field(20, ge=1, description="Importance samples, where the model's likelihood is sampled.")


class RandomOptions(LikelihoodRatioOptions):
    """The background sees values replaced at random, anew at every step."""

    perturbation = "random"

    strength: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Probability μ that a value is replaced by a uniform 0..255; by default 0.3 for grey images and "
        "0.2 for colour, which the paper chose by MNIST's AUROC.",
    )


class SvdOptions(LikelihoodRatioOptions):
    """The background sees images without their smallest singular values."""

    perturbation = "svd"

    strength: int = Field(28, ge=0, description="Singular values of each channel that are dropped, the smallest first.")


class DctOptions(LikelihoodRatioOptions):
    """The background sees images made of few cosines."""

    perturbation = "dct"

    strength: int = Field(28, ge=1, description="DCT coefficients of each channel that are kept, the largest first.")


class GaussianBlurOptions(LikelihoodRatioOptions):
    """The background sees blurred images."""

    perturbation = "gaussian-blur"

    strength: float = Field(
        0.8, gt=0, allow_inf_nan=False, description="σ in pixels of the Gaussian; its kernel is 3x3."
    )
