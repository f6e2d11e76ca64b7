"""The reconstruction error: what the decoder cannot say about an image that the encoder has seen."""

from torch import Tensor

from oodkit import Detector, DetectorOptions, ImageSet

__all__ = ["ReconstructionError"]


class ReconstructionError(Detector[DetectorOptions]):
    """−log p(x|z) at z = mean of q(z|x), in nats: the ELBO without its KL."""

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        return {}  # nothing to learn: the model is all

    def _score(self, images: Tensor) -> Tensor:
        mean, _ = self.model.encode(images)
        log_p: Tensor = self.model.log_prob_given(images, mean)
        return -log_p
