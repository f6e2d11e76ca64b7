"""Where a named set lies on this machine, and the one sentence that says so when it does not."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from oodkit import DataNotFoundError, DatasetRequest, ImageSet, load_images
from oodkit_datasets.download import fetch

__all__ = ["NamedSet", "Place", "data_folders"]

DEFAULT_FOLDER = "~/.cache/oodkit/data"

Reader: TypeAlias = Callable[[Path, DatasetRequest], ImageSet]

# What the layouts call the splits.
WORDS = {
    "train": {"split": "train", "idx": "train", "omniglot": "images_background", "batch": "data_batch_1"},
    "test": {"split": "test", "idx": "t10k", "omniglot": "images_evaluation", "batch": "test_batch"},
}


@dataclass(frozen=True)
class Place:
    """A file or folder that may hold the set: its name within a data folder, and what reads it.

    The name may contain the keys of `WORDS`, {split} among them; one without any serves every split. What has
    no reader of its own, `oodkit.load_images` reads.
    """

    name: str
    read: Reader | None = None


@dataclass(frozen=True)
class NamedSet:
    """One set that a user has or can get: called with a request, the function that `DatasetSpec` names."""

    name: str
    channels: int
    places: tuple[Place, ...] = ()
    first: tuple[Place, ...] = ()  # preferred to `<name>-<split>.npz` and its like
    torchvision: str = ""  # the class that downloads it
    advice: str = ""  # how to get it by hand
    crop: bool = True

    def __call__(self, request: DatasetRequest) -> ImageSet:
        """Return the images.

        Raises:
            DataNotFoundError: they are not on this machine and were not to be, or could not be, downloaded.
        """
        found = self._find(request.split)
        if found is None and request.download and self.torchvision:
            fetch(self.name, self.torchvision, request.split, data_folders()[0])
            found = self._find(request.split)
        if found is None:
            raise DataNotFoundError(self._not_found(request))
        path, place = found
        return place.read(path, request) if place.read else self._read(path, request, for_all="{" not in place.name)

    def _find(self, split: str) -> tuple[Path, Place] | None:
        for folder in data_folders():
            for place in self._all_places():
                path = folder / place.name.format_map(WORDS[split])
                if path.exists():
                    return path, place
        return None

    def _all_places(self) -> tuple[Place, ...]:
        by_split = (f"{self.name}-{{split}}.npz", f"{self.name}-{{split}}.zip", f"{self.name}/{{split}}")
        for_all = (f"{self.name}.npz", f"{self.name}.zip")
        return (*self.first, *map(Place, by_split), *self.places, *map(Place, for_all))

    def _read(self, path: Path, request: DatasetRequest, *, for_all: bool) -> ImageSet:
        images = load_images(
            path,
            request.split,
            limit=request.count,
            seed=request.seed,
            image_shape=request.image_shape or (self.channels, 32, 32),
            crop=self.crop,
        )
        notes = ["JPEG-compressed"] if any("JPEG" in step for step in images.steps) else []
        notes += ["the same for every split"] if for_all else []
        return replace(images, source=f"{path} ({', '.join(notes)})") if notes else images

    def _not_found(self, request: DatasetRequest) -> str:
        names = [place.name.format_map(WORDS[request.split]) for place in self._all_places()]
        folders = [f"{f}{'' if f.is_dir() else ' (no such folder)'}" for f in data_folders()]
        ways = ["set OODKIT_DATA to the folder that has it", "give the path of your own file or folder"]
        if self.torchvision and not request.download:
            ways.insert(0, "fetch it with --download (download=True)")
        return (
            f"{self.name} ({request.split}) is not on this machine: looked for {', '.join(names)} "
            f"in {', '.join(folders)}; {', or '.join(ways)}"
            f"{f' ({self.advice})' if self.advice else ''}."
        )


def data_folders() -> list[Path]:
    """Return the folders of OODKIT_DATA, or the default one."""
    listed = [part for part in os.environ.get("OODKIT_DATA", "").split(os.pathsep) if part]
    return [Path(os.path.expanduser(part)) for part in listed or [DEFAULT_FOLDER]]
