"""What every curvature approximation promises."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from oodkit.curvature import CurvatureApproximation, fit_curvature
from oodkit.gradients import layer_gradients
from oodkit.options import Options
from oodkit.registry import load_target, registry
from oodkit.testing.inputs import assert_same, blobs, noise, small_vae
from oodkit.testing.source import assert_documented, assert_lazy, assert_no_pickle, assert_options_are_read
from oodkit.testing.surroundings import repeat, watch

__all__ = ["CurvatureKit"]


class CurvatureKit:
    """The checks of one curvature approximation, on the layers of a small VAE, on the CPU."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:  # Any: an option's value
        self.name = name
        self.entry = registry().curvature(name)
        self.kind: type[CurvatureApproximation] = load_target(self.entry.spec.target, name)
        self.options_class: type[Options] = load_target(self.entry.spec.options, name)
        self.options: Any = self.options_class.parse(name, options)  # Any: the class that the spec names

    def fitted(self, batch_size: int = 16) -> dict[str, CurvatureApproximation]:
        """Return one approximation for each layer, fitted anew."""
        layers = {name: self.kind(self.options) for name in small_vae().curvature_layers()}
        fit_curvature(small_vae(), blobs(64), layers, batch_size=batch_size)
        return layers

    @property
    def layers(self) -> dict[str, CurvatureApproximation]:
        """Fitted approximations by layer."""
        return self.first[0]

    @cached_property
    def images(self) -> Tensor:
        """Training-like images and noise."""
        return torch.cat([blobs(5, seed=3).images, noise(3).images])

    def _scores(self, layers: dict[str, CurvatureApproximation], images: Tensor) -> Tensor:
        gradients = layer_gradients(small_vae(), images, list(layers))
        return torch.stack([layers[name].quadratic_form(g) for name, g in gradients.items()], 1)

    @cached_property
    def first(self) -> tuple[dict[str, CurvatureApproximation], str]:
        """Fitted approximations by layer, and what changed around them meanwhile."""

        def fit_and_score() -> dict[str, CurvatureApproximation]:
            layers = self.fitted()
            self._scores(layers, self.images)
            return layers

        return watch(fit_and_score, small_vae())

    @cached_property
    def second(self) -> tuple[Tensor, int]:
        """S of `images` by others that are then dropped, and the bytes that outlive them."""
        assert self.first
        return repeat(lambda: self._scores(self.fitted(), self.images))

    def check_not_negative_and_finite(self) -> None:
        """S = sᵀ F⁻¹ s is finite and at least 0."""
        scores = self._scores(self.layers, self.images)
        assert scores.isfinite().all() and (scores >= 0).all(), f"S = sᵀ F⁻¹ s is negative or not finite: {scores}."

    def check_images_do_not_mix(self) -> None:
        """S is the same alone as among others."""
        together = self._scores(self.layers, self.images)
        alone = torch.cat([self._scores(self.layers, image[None]) for image in self.images])
        assert_same(alone, together, "alone against in a batch")

    def check_batch_size_does_not_matter(self) -> None:
        """F does not depend on how images are cut into batches."""
        assert_same(
            self._scores(self.fitted(batch_size=5), self.images),
            self._scores(self.layers, self.images),
            "fitted in fives",
        )

    def check_state_is_complete(self) -> None:
        """`state` is all that `quadratic_form` needs."""
        again = {name: self.kind(self.options) for name in self.layers}
        for name, approximation in self.layers.items():
            again[name].state = dict(approximation.state)
        expected = self._scores(self.layers, self.images)
        assert torch.equal(self._scores(again, self.images), expected), "`state` does not hold all that was learnt."

    def check_same_again(self) -> None:
        """Scoring again, and fitting again, gives the same S."""
        expected = self._scores(self.layers, self.images)
        assert torch.equal(self._scores(self.layers, self.images), expected), "scoring twice gives two results."
        assert torch.equal(self.second[0], expected), "fitted again gives another result."

    def check_nothing_global_is_touched(self) -> None:
        """Random states, settings, environment and the model stay as they were."""
        assert not self.first[1], self.first[1]

    def check_memory_is_returned(self) -> None:
        """A dropped approximation leaves no tensor behind."""
        kept = self.second[1]
        assert kept <= 0, f"{kept:,} bytes of tensors outlive the approximation that was fitted and dropped."

    def check_options_are_documented_and_honoured(self) -> None:
        """Each option has a description and a line that reads it."""
        assert_documented(self.options_class)
        assert_options_are_read(self.options_class)

    def check_nothing_is_pickled(self) -> None:
        """No line of the package pickles or unpickles."""
        assert_no_pickle(self.entry.spec.target)

    def check_hooks_do_not_import_torch(self) -> None:
        """`oodkit list` stays quick: the hooks import no torch."""
        assert_lazy(self.entry.module)
