"""Options of the classifier; the defaults train in minutes on two CPU cores."""

from typing import Literal

from pydantic import Field

from oodkit import ClassifierOptions

__all__ = ["NetworkOptions"]


class NetworkOptions(ClassifierOptions):
    """Which network, and how it is trained."""

    network: Literal["cnn", "vgg11", "vgg13", "vgg16", "vgg19", "resnet18"] = Field(
        "cnn", description="A basic CNN, a VGG with batch normalisation, or a ResNet-18."
    )
    width: int | None = Field(
        None, ge=1, description="Channels of the first convolution; by default 32 for cnn, 64 for the others."
    )
    epochs: int = Field(10, ge=0, description="Passes over the training images.")
