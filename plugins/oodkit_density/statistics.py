"""Densities of a few numbers per image: the model's own statistics, and lengths as compressed files.

Sources: DoSE, Morningstar et al. 2021, arXiv:2006.09273; the likelihood path, Huang et al. 2024, arXiv:2401.04933.
"""

import torch
from torch import Tensor

from oodkit import (
    Detector,
    Explanation,
    ImageSet,
    PluginError,
    compressed_lengths,
    compressor_versions,
    fit_density,
    load_density,
)
from oodkit_density.options import ComplexityOptions, StatisticsOptions

__all__ = ["Complexity", "StatisticsDensity"]


class StatisticsDensity(Detector[StatisticsOptions]):
    """How unlike the training images' `model.statistics(x)` are: one forward pass, no gradient."""

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        self._names(images.images[:1].to(self.device))
        fitting = images.sample(self.options.fitting_images, self.options.seed)
        return fit_density(self.per_image(self._values, fitting), self.options).state

    def _score(self, images: Tensor) -> Tensor:
        return load_density(self.state, self.options).score(self._values(images))

    def _explain(self, images: Tensor) -> Explanation:
        values, density = self._values(images), load_density(self.state, self.options)
        names = (*self._names(images[:1]), *self.options.lengths)
        return Explanation(names, density.standardised(values), density.contributions(values))

    @classmethod
    def versions(cls, options: StatisticsOptions) -> dict[str, str]:
        """Return the versions of the compressors that are asked for."""
        return compressor_versions(options.lengths) if options.lengths else {}

    def _values(self, images: Tensor) -> Tensor:
        """Return the statistics and then the lengths, (N, K), float64."""
        statistics = self.model.statistics(images)
        chosen = self.options.statistics or tuple(statistics)
        values = torch.stack([statistics[name] for name in chosen], 1).double()
        if not self.options.lengths:
            return values
        return torch.cat([values, compressed_lengths(images, self.options.lengths).to(values)], 1)

    def _names(self, image: Tensor) -> tuple[str, ...]:
        """Return the names of the statistics that are looked at.

        Raises:
            PluginError: the model has no such statistic.
        """
        with torch.no_grad():
            has = tuple(self.model.statistics(image))
        wanted: tuple[str, ...] = self.options.statistics or has
        if missing := [name for name in wanted if name not in has]:
            raise PluginError(
                f"{self.name}: the model has no statistic {', '.join(missing)}; it has {', '.join(has)}. Choose among "
                "these with statistics=…, or another detector."
            )
        return wanted


class Complexity(Detector[ComplexityOptions]):
    """How unlike the training images' lengths as compressed files are: no model at all.

    What a model adds is what it is better than this.
    """

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        fitting = images.sample(self.options.fitting_images, self.options.seed)
        return fit_density(self.per_image(self._values, fitting), self.options).state

    def _score(self, images: Tensor) -> Tensor:
        return load_density(self.state, self.options).score(self._values(images))

    def _explain(self, images: Tensor) -> Explanation:
        values, density = self._values(images), load_density(self.state, self.options)
        return Explanation(self.options.lengths, density.standardised(values), density.contributions(values))

    @classmethod
    def versions(cls, options: ComplexityOptions) -> dict[str, str]:
        """Return Pillow's version and those of the compressing libraries."""
        return compressor_versions(options.lengths)

    def _values(self, images: Tensor) -> Tensor:
        return compressed_lengths(images, self.options.lengths).to(self.device)
