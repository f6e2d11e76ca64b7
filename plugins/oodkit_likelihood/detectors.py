"""The likelihood as a score: known to fail where OOD images are simpler than the training images.

Source of the failure: Nalisnick et al. 2019, arXiv:1810.09136.
"""

from torch import Tensor

from oodkit import Detector, DetectorOptions, ImageSet, log_likelihood
from oodkit_likelihood.options import NllOptions

__all__ = ["Elbo", "Nll"]


class Nll(Detector[NllOptions]):
    """−log p(x) in nats, by importance samples where the model is sampled."""

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        return {}  # nothing to learn: the model is all

    def _score(self, images: Tensor) -> Tensor:
        log_p = log_likelihood(self.model, images, samples=self.options.samples, seed=self.options.seed)
        return -log_p


class Elbo(Detector[DetectorOptions]):
    """−log_prob in nats, without sampling: the function that ROSE differentiates."""

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        return {}  # nothing to learn: the model is all

    def _score(self, images: Tensor) -> Tensor:
        log_p: Tensor = self.model.log_prob(images)
        return -log_p
