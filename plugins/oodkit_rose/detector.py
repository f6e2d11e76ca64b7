"""ROSE: how large an update of the model one image asks for, measured by the Fisher information.

Source: Choi et al. 2021, "Robust Out-of-Distribution Detection on Deep Probabilistic Generative Models",
arXiv:2106.07903, algorithm 2.
"""

import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from oodkit import CurvatureApproximation, Detector, ImageError, ImageSet, fit_curvature, layer_gradients
from oodkit_rose.options import RoseOptions

__all__ = ["Rose"]


class Rose(Detector[RoseOptions]):
    """S = sᵀ F⁻¹ s per layer with s = ∇ log p(x) (eq. 5), normalised by training images (eq. 10), joined (eq. 11)."""

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        fitting, calibration = self._split(images)
        approximations = {layer: self._approximation() for layer in self._layers}
        fit_curvature(self.model, fitting, approximations, batch_size=self.batch_size)
        state = {f"{layer}/{key}": t for layer, a in approximations.items() for key, t in a.state.items()}
        scores = self.per_image(
            lambda batch: self._layer_scores(batch, approximations), calibration, text="calibrate layers"
        ).double()
        return state | self._calibrate(scores)

    def _score(self, images: Tensor) -> Tensor:
        approximations = {layer: self._approximation(layer) for layer in self._layers}
        scores = self._layer_scores(images, approximations).double()
        if self.options.aggregation == "mahalanobis":
            distance = _log(scores) - self.state["mean"]
            return torch.einsum("nk,kl,nl->n", distance, self.state["precision"], distance)
        normalised = (scores - self.state["mean"]) / self.state["deviation"]
        if self.options.aggregation == "max":
            # ‖ReLU(·)‖_∞ without the ReLU: the same order where any layer is above its mean, and no ties below
            return normalised.amax(1)
        return (normalised + self.options.shift).relu().norm(self.options.p, dim=1)

    def _layer_scores(self, images: Tensor, approximations: dict[str, CurvatureApproximation]) -> Tensor:
        """Return S of each layer, (N, layers)."""
        gradients = layer_gradients(self.model, images, self._layers)
        scores = torch.stack([approximations[layer].quadratic_form(g) for layer, g in gradients.items()], 1)
        return scores.sqrt() if self.options.root else scores

    def _calibrate(self, scores: Tensor) -> dict[str, Tensor]:
        """Return what makes the layers comparable, of S (M, layers), float64.

        Raises:
            ImageError: a score is not finite.
        """
        if not scores.isfinite().all():
            raise ImageError(f"{self.name}: scores of the calibration images are not finite; choose a larger damping.")
        if self.options.aggregation == "mahalanobis":
            logs = _log(scores)
            covariance, _ = ledoit_wolf(logs.cpu().numpy())
            return {"mean": logs.mean(0), "precision": torch.linalg.pinv(torch.from_numpy(covariance), hermitian=True)}
        # A layer whose score never varies on training images tells nothing: clamp, so that it cannot divide by zero.
        return {"mean": scores.mean(0), "deviation": scores.std(0).clamp_min(1e-12)}

    def _split(self, images: ImageSet) -> tuple[ImageSet, ImageSet]:
        """Return the images that make F, and those that give μ and σ.

        Raises:
            ImageError: there are too few.
        """
        if len(images) < 3:
            raise ImageError(
                f"{self.name} needs at least 3 images to fit, to have a mean and a spread; got {len(images)}."
            )
        generator = torch.Generator().manual_seed(self.options.seed)
        order = torch.randperm(len(images), generator=generator)
        if self.options.calibration == "same":
            fitting = images.select(order[: self.options.fitting_images])
            return fitting, fitting
        apart = max(2, min(self.options.calibration_images, len(images) // 5))
        return images.select(order[apart:][: self.options.fitting_images]), images.select(order[:apart])

    @property
    def _layers(self) -> list[str]:
        layers: list[str] = list(self.options.layers or self.model.curvature_layers())
        return layers

    def _approximation(self, layer: str | None = None) -> CurvatureApproximation:
        """Return the approximation of one layer, with what `_fit` learnt if a layer is named."""
        assert self.curvature is not None  # the registry sets it for a detector over curvatures
        approximation = self.curvature(self.options)
        if layer is not None:
            prefix = f"{layer}/"
            approximation.state = {k.removeprefix(prefix): v for k, v in self.state.items() if k.startswith(prefix)}
        return approximation


def _log(scores: Tensor) -> Tensor:
    return scores.clamp_min(torch.finfo(torch.float64).tiny).log()
