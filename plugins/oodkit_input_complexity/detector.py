"""Input complexity: the likelihood, less what an image owes to being simple.

Simple images are likely under any model; what a general-purpose compressor needs for an image measures how simple.

Source: Serrà et al. 2020, "Input Complexity and Out-of-distribution Detection with Likelihood-based Generative Models",
arXiv:1909.11480.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from torch import Tensor

from oodkit import Detector, ImageError, ImageSet, compressed_lengths, compressor_versions, log_likelihood
from oodkit_input_complexity.options import InputComplexityOptions

__all__ = ["InputComplexity", "Jpeg2000Complexity", "PngComplexity"]


class InputComplexity(Detector[InputComplexityOptions]):
    """−log2 p(x) − L(x), L the bits of the compressed file, headers and all."""

    compressor: ClassVar[str]

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        if images.image_shape[0] not in (1, 3):
            raise ImageError(
                f"{self.name} compresses grey (1) and colour (3) images, not {images.image_shape[0]} channels."
            )
        return {}  # nothing to learn: the model and the compressor are all

    def _score(self, images: Tensor) -> Tensor:
        with ThreadPoolExecutor(1) as beside:
            # Begins at once, beside the model. A GPU is not kept waiting; with JPEG 2000, Pillow holds Python's lock.
            lengths = beside.submit(compressed_lengths, images, [self.compressor])
            log_p = log_likelihood(self.model, images, samples=self.options.samples, seed=self.options.seed)
            nats = -log_p.double()
            likelihood = nats / math.log(2) if self.options.units == "bits" else nats
            return likelihood - 8 * lengths.result()[:, 0].to(likelihood)

    @classmethod
    def versions(cls, options: InputComplexityOptions) -> dict[str, str]:
        """Return those of Pillow and of the compressor."""
        del options
        return compressor_versions([cls.compressor])


class PngComplexity(InputComplexity):
    """L is that of a PNG file at level 9, each row's filter chosen by the encoder."""

    compressor = "png"


class Jpeg2000Complexity(InputComplexity):
    """L is that of a JP2 file, boxes included, with the reversible 5/3 wavelet and no limit on its size."""

    compressor = "jp2"
