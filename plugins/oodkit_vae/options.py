"""Options of the VAE; the defaults are the paper's."""

from pydantic import Field

from oodkit import ModelOptions

__all__ = ["VaeOptions"]


class VaeOptions(ModelOptions):
    """Architecture and training of the VAE."""

    width: int | None = Field(
        None,
        ge=1,
        description="Channels after the first convolution (n); by default 32 for grey images, 64 for colour.",
    )
    latent: int | None = Field(
        None, ge=1, description="Dimensions of z; by default 100 for grey images, 200 for colour."
    )
    decay_every: int = Field(
        30, ge=0, description="Multiply the learning rate by `decay` every so many epochs; 0: never."
    )
    flips: bool = Field(True, description="Mirror each training image left to right, with probability 1/2.")
