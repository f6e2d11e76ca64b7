"""Density of the logarithms of the layers' squared gradient norms.

Source: Dauncey, Holmes, Williams and Falck 2024, "Approximations to the Fisher information metric of deep generative
models for out-of-distribution detection", arXiv:2403.01485: layers independent, each logarithm normal.
"""

import torch
from torch import Tensor

from oodkit import Detector, Explanation, ImageSet, fit_density, layer_gradients, load_density
from oodkit_rose.options import GradientNormOptions

__all__ = ["GradientNormDensity"]


class GradientNormDensity(Detector[GradientNormOptions]):
    """How unlike the training images' log ‖∇ log p(x)‖² of each layer are."""

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        fitting = images.sample(self.options.fitting_images, self.options.seed)
        return fit_density(self.per_image(self._norms, fitting), self.options).state

    def _score(self, images: Tensor) -> Tensor:
        return load_density(self.state, self.options).score(self._norms(images))

    def _explain(self, images: Tensor) -> Explanation:
        norms, density = self._norms(images), load_density(self.state, self.options)
        return Explanation(self._layers, density.standardised(norms), density.contributions(norms))

    def _norms(self, images: Tensor) -> Tensor:
        """Return the squared norm of each layer's gradient, (N, layers), float64."""
        gradients = layer_gradients(self.model, images, self._layers)
        return torch.stack([g.squared_norm() for g in gradients.values()], 1).double()

    @property
    def _layers(self) -> tuple[str, ...]:
        return tuple(self.model.matching_layers(self.options.layers))
