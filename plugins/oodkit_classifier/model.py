"""Classifiers of images, as Choi et al. 2021 (arXiv:2106.07903, appendix D) put ROSE on them."""

import torch
from torch import Tensor, nn

from oodkit import Classifier, ImageError
from oodkit_classifier.networks import SMALLEST_SIDE, cnn, resnet18, vgg
from oodkit_classifier.options import NetworkOptions

__all__ = ["ImageClassifier"]


class ImageClassifier(Classifier):
    """softmax(network(x)), of pixel values brought to −1..1."""

    options: NetworkOptions

    def __init__(self, image_shape: tuple[int, int, int], options: NetworkOptions) -> None:
        super().__init__(image_shape, options)
        channels, height, width = image_shape
        smallest = SMALLEST_SIDE[options.network]
        if min(height, width) < smallest:
            raise ImageError(
                f"classifier with network {options.network} takes images of {smallest}x{smallest} at least, not "
                f"{height}x{width}; convert them with oodkit.load_images(…, image_shape=({channels}, 32, 32))."
            )
        self.network = _network(options, channels, (height, width))
        self.to(memory_format=torch.channels_last)

    def logits(self, images: Tensor) -> Tensor:
        """Return the unnormalised log-probabilities of the classes, (N, classes), of uint8 (N, C, H, W)."""
        x = images.to(self.dtype) / 127.5 - 1
        logits: Tensor = self.network(x.contiguous(memory_format=torch.channels_last))
        return logits


def _network(options: NetworkOptions, channels: int, side: tuple[int, int]) -> nn.Module:
    match options.network:
        case "cnn":
            return cnn(channels, side, options.classes, options.width or 32)
        case "resnet18":
            return resnet18(channels, options.classes, options.width or 64)
        case name:
            return vgg(name, channels, options.classes, options.width or 64)
