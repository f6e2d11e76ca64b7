"""The image sets of a run: those of the first seed before any training starts, those of another in its turn."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from oodkit.bench.leave_out import left_out, only, without
from oodkit.bench.names import CONTROLS, RECOMPRESSED, RESIZED, brightness_of, made_from
from oodkit.bench.plan import Plan
from oodkit.errors import DataNotFoundError, ImageError
from oodkit.images import ImageSet, Shape, draw_indices
from oodkit.loading import load_images
from oodkit.model import GenerativeModel
from oodkit.perturbations import brightness, jpeg
from oodkit.registry import registry

__all__ = ["SeededSets", "Sets", "load_train_images"]

SIDE = 32  # pictures given by path are brought to 32x32, as the named sets are
PROBE = 64  # pictures that decide whether a set is grey
TEST_SHARE = 5  # of an ID set without splits, every fifth image becomes a test image


@dataclass(frozen=True)
class Sets:
    """The images of one seed; `ood` by the label that rows and tables show, `missing` with the reason."""

    train: ImageSet
    test: ImageSet
    ood: dict[str, ImageSet]
    missing: dict[str, str] = field(default_factory=dict)


class SeededSets:
    """The sets of each seed, all of one image shape: `model`'s, or else the ID set's. One seed's are held at a time."""

    def __init__(self, plan: Plan, model: GenerativeModel | None) -> None:
        self._plan = plan
        self._shape = model.image_shape if model is not None else None
        self._train: ImageSet | None = None  # of another seed, where no draw depends on it
        self._last: tuple[int, Sets] | None = None

    @property
    def trains_on_one(self) -> bool:
        """Whether the training images are the same for all seeds."""
        return self._plan.spec.train_limit is None or self._plan.spec.model_seed is not None

    def __getitem__(self, seed: int) -> Sets:
        """Return the sets of a seed.

        Raises:
            DataNotFoundError: a set is not on this machine; of OOD sets with `skip_missing`, none is.
            UnknownNameError: a set is neither a name nor a path.
            ImageError: a set cannot be read, or the ID set is too small.
        """
        if self._last is None or self._last[0] != seed:
            self._last = None  # before others are loaded
            train, test, classes = _load_classes(self._plan, seed, self._shape, self._train)
            if len(test) < 2:
                raise ImageError(f"{self._plan.spec.id}: {len(test)} test image is too few; give at least 2.")
            self._last = seed, Sets(train, test, *_load_ood(self._plan, seed, test, classes))
            self._train = train if self.trains_on_one else None
        return self._last[1]


def load_train_images(
    source: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    image_shape: Shape | None = None,
    download: bool = False,
    resize: bool = True,
) -> ImageSet:
    """Return the training images that a benchmark with `--id source` would use.

    Raises:
        DataNotFoundError: the set is not on this machine.
        UnknownNameError: it is neither a name nor a path.
        ImageError: it cannot be read, or is too small.
    """
    if source in registry().datasets:
        return load_images(source, "train", limit=limit, seed=seed, image_shape=image_shape, download=download)
    return _load_path(source, seed, seed, image_shape, limit, None, resize)[0]


def _load_classes(
    plan: Plan, seed: int, shape: Shape | None, known: ImageSet | None
) -> tuple[ImageSet, ImageSet, dict[str, ImageSet]]:
    """Return training and test images, and the test images of each class that is left out of both, by its source.

    Raises:
        ImageError: there are no labels, or no such class.
    """
    labels, spec = left_out(plan.ood), plan.spec
    if not labels:
        return *_load_id(plan, seed, shape, known), {}
    # All of them: what is left of a draw would be of another size.
    whole = replace(plan, spec=spec.model_copy(update={"limit": None, "train_limit": None}))
    train, test = _load_id(whole, seed, shape, None)
    classes = {source: only(test, label) for source, label in labels.items()}
    train, test = (without(images, list(labels.values())) for images in (train, test))
    if spec.train_limit is not None:
        train = train.sample(spec.train_limit, seed if spec.model_seed is None else spec.model_seed)
    if spec.limit is not None:
        test = test.sample(spec.limit, seed)
        classes = {source: images.sample(spec.limit, seed) for source, images in classes.items()}
    return train, test, classes


def _load_id(plan: Plan, seed: int, shape: Shape | None, known: ImageSet | None) -> tuple[ImageSet, ImageSet]:
    """Return training and test images; `known` are the training images of a named set, where they are known."""
    spec = plan.spec
    drawn = seed if spec.model_seed is None else spec.model_seed
    if spec.id not in registry().datasets:
        return _load_path(spec.id, drawn, seed, shape, spec.train_limit, spec.limit, spec.resize)
    train = known
    if train is None:
        limit = spec.train_limit
        train = load_train_images(spec.id, limit=limit, seed=drawn, image_shape=shape, download=spec.download)
    test = load_images(
        spec.id, "test", limit=spec.limit, seed=seed, image_shape=train.image_shape, download=spec.download
    )
    return train, test


def _load_path(
    source: str,
    train_seed: int,
    seed: int,
    shape: Shape | None,
    train_limit: int | None,
    limit: int | None,
    resize: bool,
) -> tuple[ImageSet, ImageSet]:
    """Return training and test images of a path: its own splits, or else ours."""
    shape = shape or _shape_of(source)
    if _has_splits(source):
        train = load_images(source, "train", limit=train_limit, seed=train_seed, image_shape=shape, resize=resize)
        return train, load_images(source, "test", limit=limit, seed=seed, image_shape=shape, resize=resize)
    train, test = _split(load_images(source, "all", image_shape=shape, resize=resize))
    return (
        train if train_limit is None else train.sample(train_limit, train_seed),
        test if limit is None else test.sample(limit, seed),
    )


def _load_ood(
    plan: Plan, seed: int, test: ImageSet, classes: dict[str, ImageSet]
) -> tuple[dict[str, ImageSet], dict[str, str]]:
    """Return the OOD sets by label, and why those that are missing are, where that is allowed.

    Those in `classes` are taken as they are.

    Raises:
        DataNotFoundError: a set is not on this machine; with `skip_missing`, none is.
    """
    loaded, missing = {}, {}
    for label, source in _labels(plan.ood).items():
        try:
            loaded[label] = (
                classes[source] if source in classes else _load_one(source, plan, seed, test, plan.spec.resize)
            )
        except DataNotFoundError as error:
            if not plan.spec.skip_missing:
                raise
            missing[label] = str(error)
    if not loaded:
        raise DataNotFoundError(f"none of the OOD sets is on this machine; the first: {next(iter(missing.values()))}")
    return loaded, missing


def _load_one(source: str, plan: Plan, seed: int, test: ImageSet, resize: bool) -> ImageSet:
    for control in CONTROLS:
        if source.startswith(control):
            return _control(control, test, _load_one(source.removeprefix(control), plan, seed, test, resize=True))
    base, factor = (source, None) if Path(source).exists() else brightness_of(source)
    if factor is not None:
        images = _load_one(base, plan, seed, test, resize)
        changed, step = brightness(images.images, factor), f"brightness x{factor:g}"
        return replace(images, name=source, images=changed, steps=(*images.steps, step))
    spec = plan.spec
    shape, download = test.image_shape, spec.download
    return load_images(
        source,
        "test",
        limit=spec.limit,
        seed=seed,
        image_shape=shape,
        download=download,
        reference=test,
        resize=resize,
    )


def _control(control: str, test: ImageSet, other: ImageSet) -> ImageSet:
    """Return the ID test images, brought to the size and the channels that `other`'s files have, and back.

    With RECOMPRESSED they are compressed there as those files are. Where a detector tells them from the ID test
    images, it sees the preparation and not the subject.

    Raises:
        ImageError: the files of `other` are of several sizes, or not JPEG files of one quality.
    """
    name = f"{control}{other.name}"
    channels, height, width = test.image_shape
    for step in other.steps:
        if step.startswith("bilinear various"):
            raise ImageError(f"{name}: its pictures are of various sizes, so there is no one chain.")
        if size := re.match(r"bilinear (\d+)x(\d+) -> ", step):
            height, width = int(size[1]), int(size[2])
        if step.startswith("repeat 1 -> 3"):
            channels = 1
    there = load_images(test, image_shape=(channels, height, width))
    if control == RECOMPRESSED:
        quality = re.search(r"decoded from JPEG of quality (\d+)$", "\n".join(other.steps), re.MULTILINE)
        if quality is None:
            raise ImageError(f"{name}: its files are not JPEG files of one quality; choose {RESIZED}{other.name}.")
        compressed = jpeg(there.images, int(quality[1]))
        there = replace(there, images=compressed, steps=(*there.steps, f"JPEG of quality {quality[1]}"))
    return replace(load_images(there, image_shape=test.image_shape), name=name)


def _labels(sources: tuple[str, ...]) -> dict[str, str]:
    """Return the sources by a short label: a name, or a path's last part where no other ends so."""
    short = [s if made_from(s) in registry().datasets else Path(s).name for s in sources]
    return {label if short.count(label) == 1 else source: source for label, source in zip(short, sources, strict=True)}


def _has_splits(source: str) -> bool:
    """Return whether a path holds folders train and test: then a split of any other name is refused."""
    try:
        load_images(source, "neither", limit=1, image_shape=(1, SIDE, SIDE))
    except DataNotFoundError:
        return True
    except ImageError:  # its first picture is damaged; it has no splits, or this could not have happened
        return False
    return False


def _shape_of(source: str) -> Shape:
    """Return (1, 32, 32) for a path of pictures that are grey, in whatever format, else (3, 32, 32)."""
    try:
        probe = load_images(source, "train", limit=PROBE, image_shape=(3, SIDE, SIDE))
    except ImageError:  # those drawn are all damaged
        probe = load_images(source, "train", image_shape=(3, SIDE, SIDE))
    grey = bool((probe.images == probe.images[:, :1]).all())
    return (1 if grey else 3, SIDE, SIDE)


def _split(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Return four fifths for training and one fifth for tests, the same ones in every run.

    Raises:
        ImageError: there are too few.
    """
    if len(images) < 2 * TEST_SHARE:
        raise ImageError(
            f"{images.name}: {len(images)} images are too few to split into training and test images; "
            f"give at least {2 * TEST_SHARE}, or folders train and test."
        )
    chosen = draw_indices(len(images), len(images) // TEST_SHARE, seed=0)
    is_test = torch.zeros(len(images), dtype=torch.bool).index_fill(0, chosen, True)
    others = (~is_test).nonzero().flatten()
    step = f"no splits: {len(others)} of {len(images)} for training, {len(chosen)} for tests (drawn, seed 0)"
    parts = {"train": images.select(others), "test": images.select(chosen)}
    train, test = (replace(part, split=name, steps=(*part.steps, step)) for name, part in parts.items())
    return train, test
