"""What every detector promises."""

import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from oodkit.detector import Detector
from oodkit.errors import ArtifactError, ImageError, NotFittedError, OptionError
from oodkit.images import ImageSet
from oodkit.model import GenerativeModel
from oodkit.named_detectors import create_detector, load_detector
from oodkit.registry import detector_options, registry
from oodkit.testing.inputs import assert_refused, assert_same, blobs, inverted, noise, small_vae
from oodkit.testing.source import assert_documented, assert_lazy, assert_no_pickle, assert_options_are_read
from oodkit.testing.surroundings import repeat, watch

__all__ = ["DetectorKit"]


class DetectorKit:
    """The checks of one detector, on the CPU, with small images and a small VAE."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:  # Any: an option's value
        self.name, self.options = name, options
        self.entry = registry().detector(name)

    def model(self) -> GenerativeModel | None:
        """Return the model that it looks through."""
        return None if self.entry.spec.model == "none" else small_vae()

    def fitted(self, **keywords: Any) -> Detector[Any]:  # Any: device or batch size; options of any detector
        """Return it, fitted anew to training-like images."""
        settings: dict[str, Any] = {"device": "cpu", "batch_size": 8, **self.options, **keywords}  # Any: as above
        return create_detector(self.name, self.model(), **settings).fit(blobs(96, seed=2))

    @property
    def detector(self) -> Detector[Any]:  # Any: options of any detector
        """One that is fitted."""
        return self.first[0][0]

    @cached_property
    def images(self) -> ImageSet:
        """Training-like images and noise."""
        mixed = torch.cat([blobs(5, seed=3).images, noise(3).images])
        return ImageSet("mixed", "test", mixed)

    @property
    def scores(self) -> Tensor:
        """Of `images`, all in one batch."""
        return self.first[0][1]

    @cached_property
    def first(self) -> tuple[tuple[Detector[Any], Tensor], str]:  # Any: options of any detector
        """A fitted detector with its scores of `images`, and what changed around it meanwhile."""

        def fit_and_score() -> tuple[Detector[Any], Tensor]:  # Any: as above
            detector = self.fitted()
            return detector, detector.score(self.images)

        return watch(fit_and_score, self.model())

    @cached_property
    def second(self) -> tuple[Tensor, int]:
        """Scores of `images` by another one that is then dropped, and the bytes that outlive it."""
        assert self.first
        return repeat(lambda: self.fitted().score(self.images))

    def check_one_finite_number_per_image(self) -> None:
        """A score is one finite number for each image."""
        assert self.scores.shape == (len(self.images),), f"scores have shape {tuple(self.scores.shape)}."
        assert self.scores.isfinite().all(), f"scores are not finite: {self.scores}."

    def check_alone_as_in_a_batch(self) -> None:
        """An image has the same score alone as among others."""
        alone = torch.cat([self.detector.score(image[None]) for image in self.images.images])
        assert_same(alone, self.scores, "alone against in a batch")

    def check_order_does_not_matter(self) -> None:
        """The order of the images does not change their scores."""
        shuffled = torch.tensor([6, 2, 7, 0, 4, 1, 5, 3])
        assert_same(self.detector.score(self.images.select(shuffled)), self.scores[shuffled], "shuffled")

    def check_neighbours_do_not_matter(self) -> None:
        """Other images in the batch do not change a score."""
        others = torch.cat([self.images.images[:4], noise(4, seed=9).images])
        assert_same(self.detector.score(others)[:4], self.scores[:4], "among other images")

    def check_same_again(self) -> None:
        """Scoring again, and fitting again, gives the same scores."""
        assert torch.equal(self.detector.score(self.images), self.scores), "scoring twice gives two results."
        assert_same(self.second[0], self.scores, "fitted again")

    def check_batch_size_does_not_matter(self) -> None:
        """Fitting and scoring in other batches gives the same scores."""
        assert_same(
            self.fitted(batch_size=3).score(self.images), self.scores, "fitted and scored at another batch size"
        )

    def check_saved_and_loaded(self) -> None:
        """The saved state is all that scoring needs.

        Raises:
            AssertionError: what was saved is refused.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "detector.oodkit"
            self.detector.save(path)
            try:
                again = load_detector(path, device="cpu", batch_size=8)
            except ArtifactError as error:
                raise AssertionError(f"what was saved cannot be loaded: {error}") from error
        assert_same(again.score(self.images), self.scores, "saved and loaded")
        assert again.options == self.detector.options, "options changed by save and load."

    def check_same_on_cuda(self) -> None:
        """Loaded on a GPU, the scores are the same.

        Raises:
            SkipTest: this machine has none.
        """
        if not torch.cuda.is_available():
            raise SkipTest("this machine has no CUDA device")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "detector.oodkit"
            self.detector.save(path)
            assert_same(load_detector(path, device="cuda").score(self.images), self.scores, "on CUDA")

    def check_higher_is_more_ood(self) -> None:
        """Dark spots on a bright ground score higher than training-like bright ones on a dark ground."""
        known, strange = self.detector.score(blobs(16, seed=4)), self.detector.score(inverted(16))
        share = float((strange[:, None] > known[None]).double().mean())
        assert share > 0.9, f"inverted images score higher than training-like ones in {share:.0%} of all pairs."

    def check_bad_input_is_refused(self) -> None:
        """Images of a wrong kind are refused with `ImageError`."""
        grey = self.images.images
        for images, what in (
            (grey.float() / 255, "float images"),
            (grey[:0], "an empty batch"),
            (grey[0], "an image without a batch axis"),
            (grey[:, :, :16], "images of another size"),
            (grey.expand(-1, 3, -1, -1), "images of another number of channels"),
        ):
            assert_refused(lambda images=images: self.detector.score(images), ImageError, what)  # type: ignore[misc]  # mypy does not infer a default

    def check_scoring_before_fit_is_refused(self) -> None:
        """Scoring or saving before `fit` is refused with `NotFittedError`."""
        fresh = create_detector(self.name, self.model(), device="cpu", **self.options)
        assert_refused(lambda: fresh.score(self.images), NotFittedError, "scoring before fit")
        assert_refused(lambda: fresh.save("never-written"), NotFittedError, "saving before fit")

    def check_options_are_documented_and_honoured(self) -> None:
        """Each option has a description and a line that reads it; others are refused."""
        kind = detector_options(self.entry)
        assert_documented(kind)
        assert_options_are_read(kind)
        given = {name: getattr(self.detector.options, name, "nothing") for name in self.options}
        expected = kind.parse(self.name, self.options)
        assert given == {name: getattr(expected, name) for name in self.options}, f"options became {given}."
        assert_refused(
            lambda: create_detector(self.name, self.model(), no_such_option=1), OptionError, "an unknown option"
        )

    def check_nothing_global_is_touched(self) -> None:
        """Random states, settings, environment and the model stay as they were."""
        assert not self.first[1], self.first[1]

    def check_memory_is_returned(self) -> None:
        """A dropped detector leaves no tensor behind."""
        kept = self.second[1]
        assert kept <= 0, f"{kept:,} bytes of tensors outlive the detector that was fitted and dropped."

    def check_nothing_is_pickled(self) -> None:
        """No line of the package pickles or unpickles."""
        assert_no_pickle(self.entry.spec.target)

    def check_hooks_do_not_import_torch(self) -> None:
        """`oodkit list` stays quick: the hooks import no torch."""
        assert_lazy(self.entry.module)
