"""Options of the likelihood ratio: the same for every perturbation, but for what its strength means."""

from pathlib import Path

from pydantic import Field

from oodkit import DctOptions, GaussianBlurOptions, PerturbationOptions, RandomOptions, SvdOptions

__all__ = [
    "DctRatioOptions",
    "GaussianBlurRatioOptions",
    "LikelihoodRatioOptions",
    "RandomRatioOptions",
    "SvdRatioOptions",
]


class LikelihoodRatioOptions(PerturbationOptions):
    """How the background model is made, and how both likelihoods are estimated."""

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


class RandomRatioOptions(RandomOptions, LikelihoodRatioOptions):
    """The background sees values replaced at random, anew at every step."""


class SvdRatioOptions(SvdOptions, LikelihoodRatioOptions):
    """The background sees images without their smallest singular values."""


class DctRatioOptions(DctOptions, LikelihoodRatioOptions):
    """The background sees images made of few cosines."""


class GaussianBlurRatioOptions(GaussianBlurOptions, LikelihoodRatioOptions):
    """The background sees blurred images."""
