"""ROSE: how large an update of the model one image asks for, measured by the Fisher information.

Source: Choi et al. 2021, "Robust Out-of-Distribution Detection on Deep Probabilistic Generative Models",
arXiv:2106.07903, algorithm 2.
"""

import torch
from torch import Tensor

from oodkit import Explanation, ImageSet
from oodkit_rose.layers import LayerScores
from oodkit_rose.options import RoseOptions

__all__ = ["Rose"]


class Rose(LayerScores[RoseOptions]):
    """S = sᵀ F⁻¹ s per layer with s = ∇ log p(x) (eq. 5), normalised by training images (eq. 10), joined (eq. 11)."""

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        fitting, calibration = self._split(images)
        state = self._fit_layers(fitting)
        scores = self._calibrated(lambda batch: self._layer_scores(batch, state), calibration)
        return state | self._calibrate(self._on_scale(scores))

    def _score(self, images: Tensor) -> Tensor:
        scores = self._on_scale(self._layer_scores(images, self.state))
        if self.options.aggregation == "mahalanobis":
            distance = scores - self.state["mean"]
            return torch.einsum("nk,kl,nl->n", distance, self.state["precision"], distance)
        normalised = (scores - self.state["mean"]) / self.state["deviation"]
        if self.options.aggregation == "max":
            # ‖ReLU(·)‖_∞ without the ReLU: the same order where any layer is above its mean, and no ties below
            return normalised.amax(1)
        return (normalised + self.options.shift).relu().norm(self.options.p, dim=1)

    def _explain(self, images: Tensor) -> Explanation:
        scores = self._on_scale(self._layer_scores(images, self.state))
        return Explanation(tuple(self._layers), (scores - self.state["mean"]) / self.state["deviation"])

    def _on_scale(self, scores: Tensor) -> Tensor:
        """Return what is compared between the layers of S (N, layers): S, its root or its logarithm."""
        if self.options.root:
            scores = scores.sqrt()
        if self.options.aggregation == "mahalanobis":
            scores = scores.clamp_min(torch.finfo(torch.float64).tiny).log()
        return scores

    def _calibrate(self, scores: Tensor) -> dict[str, Tensor]:
        """Return what makes the layers comparable, of what `_on_scale` gave of the calibration images."""
        # A layer whose score never varies on training images tells nothing: clamp, so that it cannot divide by zero.
        state = {"mean": scores.mean(0), "deviation": scores.std(0).clamp_min(1e-12)}
        if self.options.aggregation == "mahalanobis":
            from sklearn.covariance import ledoit_wolf  # a second to import, and scoring needs none of it

            covariance, _ = ledoit_wolf(scores.cpu().numpy())
            state["precision"] = torch.linalg.pinv(torch.from_numpy(covariance), hermitian=True)
        return state
