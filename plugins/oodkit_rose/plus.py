"""ROSE-plus: ROSE's layers, the model's own statistics and lengths as files, in one density."""

import torch
from torch import Tensor

from oodkit import (
    Density,
    Explanation,
    ImageSet,
    backward_pass,
    compressed_lengths,
    compressor_versions,
    fit_density,
    load_density,
)
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
        density = fit_density(self._calibrated(lambda batch: self._values(batch, state), calibration), self.options)
        return state | {f"density/{key}": value for key, value in density.state.items()}

    def _score(self, images: Tensor) -> Tensor:
        return self._density().score(self._values(images, self.state))

    def _explain(self, images: Tensor) -> Explanation:
        values, density = self._values(images, self.state), self._density()
        names = (*self._layers, *self.model.statistics(images[:1]), *self.options.lengths)
        return Explanation(names, density.standardised(values), density.contributions(values))

    @classmethod
    def versions(cls, options: RosePlusOptions) -> dict[str, str]:
        """Return the versions of the compressors that are asked for."""
        return compressor_versions(options.lengths) if options.lengths else {}

    def _values(self, images: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Return S of each layer, the model's statistics and the lengths as files, (N, all of them), float64."""
        both = backward_pass(self.model, images, self._layers, statistics=True)
        values = [self._measured(both.gradients, state), torch.stack(list(both.statistics.values()), 1).double()]
        if self.options.lengths:
            values.append(compressed_lengths(images, self.options.lengths).to(values[0]))
        return torch.cat(values, 1)

    def _density(self) -> Density:
        state = {k.removeprefix("density/"): v for k, v in self.state.items() if k.startswith("density/")}
        return load_density(state, self.options)
