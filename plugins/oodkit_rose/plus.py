"""ROSE-plus: ROSE's layers, the model's own statistics and lengths as files, in one density."""

import torch
from torch import Tensor

from oodkit import Density, Explanation, ImageSet, compressed_lengths, compressor_versions, fit_density, load_density
from oodkit_rose.layers import LayerScores
from oodkit_rose.options import RosePlusOptions

__all__ = ["RosePlus"]


class RosePlus(LayerScores[RosePlusOptions]):
    """Density of S of each layer (Choi et al. 2021, eq. 5), `model.statistics(x)` and lengths, apart from F's images.

    A layer's S says how strange the gradient is; the statistics, how strange the likelihood's own parts are; the
    lengths, how simple the image is. An image may hide in one, seldom in all.
    """

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        fitting, calibration = self._split(images)
        state = self._fit_layers(fitting)
        layers = self._calibration_scores(calibration, state)
        others = self.per_image(self._statistics, calibration, text="calibrate statistics")
        density = fit_density(torch.cat([layers, others], 1), self.options)
        return state | {f"density/{key}": value for key, value in density.state.items()}

    def _score(self, images: Tensor) -> Tensor:
        return self._density().score(self._values(images))

    def _explain(self, images: Tensor) -> Explanation:
        values, density = self._values(images), self._density()
        names = (*self._layers, *self.model.statistics(images[:1]), *self.options.lengths)
        return Explanation(names, density.standardised(values), density.contributions(values))

    @classmethod
    def versions(cls, options: RosePlusOptions) -> dict[str, str]:
        """Return the versions of the compressors that are asked for."""
        return compressor_versions(options.lengths) if options.lengths else {}

    def _values(self, images: Tensor) -> Tensor:
        return torch.cat([self._layer_scores(images, self.state), self._statistics(images)], 1)

    def _statistics(self, images: Tensor) -> Tensor:
        """Return the model's statistics and the lengths as files, (N, statistics + lengths), float64."""
        statistics = torch.stack(list(self.model.statistics(images).values()), 1).double()
        if not self.options.lengths:
            return statistics
        return torch.cat([statistics, compressed_lengths(images, self.options.lengths).to(statistics)], 1)

    def _density(self) -> Density:
        state = {k.removeprefix("density/"): v for k, v in self.state.items() if k.startswith("density/")}
        return load_density(state, self.options)
