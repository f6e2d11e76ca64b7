"""What every data set promises."""

from typing import Any

from oodkit.images import ImageSet
from oodkit.loading import load_images
from oodkit.registry import registry
from oodkit.testing.inputs import blobs
from oodkit.testing.source import assert_lazy, assert_no_pickle
from oodkit.testing.surroundings import Surroundings

__all__ = ["DatasetKit"]


class DatasetKit:
    """The checks of one data set, whose files must be on this machine."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entry = registry().dataset(name)
        self.reference = blobs(20, seed=5) if self.entry.spec.derived else None

    def _load(self, **keywords: Any) -> ImageSet:  # Any: arguments of load_images
        return load_images(
            self.name, **{"split": self.entry.spec.splits[-1], "limit": 10, **keywords}, reference=self.reference
        )

    def check_every_split(self) -> None:
        """Each split has images, as many as asked for at most, and says where they come from."""
        for split in self.entry.spec.splits:
            images = self._load(split=split)
            assert 1 <= len(images) <= 10, f"{split}: {len(images)} images for limit=10."
            assert images.source, f"{split}: no source is recorded."

    def check_same_again(self) -> None:
        """Loading twice gives the same images."""
        assert self._load().hash == self._load().hash, "loading twice gives two sets."

    def check_any_shape(self) -> None:
        """It can be brought to grey and to colour."""
        for shape in ((1, 32, 32), (3, 32, 32)):
            assert self._load(image_shape=shape).image_shape == shape

    def check_nothing_global_is_touched(self) -> None:
        """Random states, settings and environment stay as they were."""
        before = Surroundings()
        self._load()
        before.assert_untouched()

    def check_nothing_is_pickled(self) -> None:
        """No line of the package pickles or unpickles."""
        assert_no_pickle(self.entry.spec.target)

    def check_hooks_do_not_import_torch(self) -> None:
        """`oodkit list` stays quick: the hooks import no torch."""
        assert_lazy(self.entry.module)
