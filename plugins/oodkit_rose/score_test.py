"""The score test and the typicality test as one: the image's gradient, and its likelihood, by p-values.

Source: Bergamin, Mattei, Havtorn, Senetaire, Schmutz, Maaløe, Hauberg and Frellsen 2022, "Model-agnostic
out-of-distribution detection using combined statistical tests", AISTATS, arXiv:2203.01097.
"""

import torch
from torch import Tensor

from oodkit import Density, Explanation, ImageSet, fit_density, load_density
from oodkit_rose.layers import LayerScores
from oodkit_rose.options import ScoreTestOptions

__all__ = ["ScoreTest"]


class ScoreTest(LayerScores[ScoreTestOptions]):
    """−log p of the score statistic sᵀ F⁻¹ s of all layers together, and of log p(x): joined by Fisher's method.

    Both p-values are two-sided tails among training images that F did not see. Beyond the last of these a tail falls
    exponentially, where the paper's would all tie.
    """

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        fitting, calibration = self._split(images)
        state = self._fit_layers(fitting)
        layers = self._calibration_scores(calibration, state)
        log_p = self.per_image(self.model.log_prob, calibration, text="calibrate likelihood")
        tests = fit_density(torch.stack([log_p.double(), layers.sum(1)], 1), self.options)
        return state | {f"tests/{key}": value for key, value in tests.state.items()}

    def _score(self, images: Tensor) -> Tensor:
        return self._tests().score(self._values(images))

    def _explain(self, images: Tensor) -> Explanation:
        values, tests = self._values(images), self._tests()
        return Explanation(("log_prob", "score statistic"), tests.standardised(values), tests.contributions(values))

    def _values(self, images: Tensor) -> Tensor:
        return torch.stack([self.model.log_prob(images).double(), self._layer_scores(images, self.state).sum(1)], 1)

    def _tests(self) -> Density:
        state = {k.removeprefix("tests/"): v for k, v in self.state.items() if k.startswith("tests/")}
        return load_density(state, self.options)
