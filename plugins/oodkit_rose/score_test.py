"""The score test and the typicality test as one: the image's gradient, and its likelihood, by p-values.

Source: Bergamin, Mattei, Havtorn, Senetaire, Schmutz, Maaløe, Hauberg and Frellsen 2022, "Model-agnostic
out-of-distribution detection using combined statistical tests", AISTATS, arXiv:2203.01097.
"""

import torch
from torch import Tensor

from oodkit import Density, Explanation, ImageSet, backward_pass, fit_density, load_density
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
        tests = fit_density(self._calibrated(lambda batch: self._values(batch, state), calibration), self.options)
        return state | {f"tests/{key}": value for key, value in tests.state.items()}

    def _score(self, images: Tensor) -> Tensor:
        return self._tests().score(self._values(images, self.state))

    def _explain(self, images: Tensor) -> Explanation:
        values, tests = self._values(images, self.state), self._tests()
        return Explanation(("log_prob", "score statistic"), tests.standardised(values), tests.contributions(values))

    def _values(self, images: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Return log p and the score statistic, (N, 2), float64."""
        both = backward_pass(self.model, images, self._layers)
        return torch.stack([both.log_prob.double(), self._measured(both.gradients, state).sum(1)], 1)

    def _tests(self) -> Density:
        state = {k.removeprefix("tests/"): v for k, v in self.state.items() if k.startswith("tests/")}
        return load_density(state, self.options)
