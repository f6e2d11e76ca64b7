"""What ROSE's detectors share: S = sᵀ F⁻¹ s of each layer, over any curvature approximation."""

from abc import ABC
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from oodkit import (
    CurvatureApproximation,
    Detector,
    ImageError,
    ImageSet,
    LayerGradient,
    fit_curvature,
    layer_gradients,
)
from oodkit_rose.options import LayerOptions

__all__ = ["LayerScores"]

LayerOptionsT = TypeVar("LayerOptionsT", bound=LayerOptions)


class LayerScores(Detector[LayerOptionsT], ABC):
    """A detector that looks at S of each layer (Choi et al. 2021, eq. 5); a subclass joins the layers."""

    def _fit_layers(self, images: ImageSet) -> dict[str, Tensor]:
        """Return F of each layer, as tensors by `layer/key`."""
        approximations = {layer: self._approximation() for layer in self._layers}
        fit_curvature(self.model, images, approximations, batch_size=self.batch_size)
        return {f"{layer}/{key}": t for layer, a in approximations.items() for key, t in a.state.items()}

    def _layer_scores(self, images: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Return S of each layer, (N, layers), float64, with F from `state`."""
        return self._measured(layer_gradients(self.model, images, self._layers), state)

    def _measured(self, gradients: Mapping[str, LayerGradient], state: dict[str, Tensor]) -> Tensor:
        """Return S of each layer's gradient, (N, layers), float64, with F from `state`."""
        scores = [self._approximation(layer, state).quadratic_form(g) for layer, g in gradients.items()]
        return torch.stack(scores, 1).double()

    def _calibrated(self, values: Callable[[Tensor], Tensor], images: ImageSet) -> Tensor:
        """Return `values` of the images that make layers comparable, (M, K), float64.

        Raises:
            ImageError: one is not finite.
        """
        scores = self.per_image(values, images, text="calibrate layers")
        if not scores.isfinite().all():
            raise ImageError(
                f"{self.name}: numbers of the calibration images are not finite; choose a larger damping, or train the "
                "model again."
            )
        return scores

    def _split(self, images: ImageSet) -> tuple[ImageSet, ImageSet]:
        """Return the images that make F, and those that give what makes the layers comparable.

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
            fitting = images.select(order[: max(3, self.options.fitting_images)])  # fewer have no spread
            return fitting, fitting
        apart = max(2, min(self.options.calibration_images, len(images) // 5))
        return images.select(order[apart:][: self.options.fitting_images]), images.select(order[:apart])

    @property
    def _layers(self) -> list[str]:
        layers: list[str] = self.model.matching_layers(self.options.layers)
        return layers

    def _approximation(self, layer: str = "", state: dict[str, Tensor] | None = None) -> CurvatureApproximation:
        """Return a fresh approximation, or that of one layer with what `state` holds of it."""
        assert self.curvature is not None  # the registry sets it for a detector over curvatures
        approximation = self.curvature(self.options)
        prefix = f"{layer}/"
        approximation.state = {k.removeprefix(prefix): v for k, v in (state or {}).items() if k.startswith(prefix)}
        return approximation
