"""`load_images`: an `ImageSet` from whatever the user has.

A registered name, a path (`.npz`, `.npy`, `.zip`, a folder, one picture), an array, a tensor, an `ImageSet`,
a torch `Dataset` or `DataLoader`. What is drawn by `limit` is drawn before it is decoded or resized. A stream, which
has no length to draw from, gives its first ones.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from oodkit.arrays import AnyArray, images_of, load_array_file
from oodkit.errors import DataNotFoundError, ImageError, OptionError, PluginError, UnknownNameError
from oodkit.images import DatasetRequest, ImageSet, Shape, draw_indices
from oodkit.labels import as_labels, read_label
from oodkit.pictures import Prepared, Refused, load_pictures, prepare, quiet_pillow, stack
from oodkit.registry import load_target, registry

__all__ = ["Source", "load_images"]

AnyDataset: TypeAlias = Dataset[Any] | DataLoader[Any]  # Any: torch does not say what an item is
Pictures: TypeAlias = Sequence[str | Path] | Sequence[Image.Image]
Source: TypeAlias = str | Path | Pictures | AnyArray | Tensor | ImageSet | AnyDataset

MODEL_SIDE = 32  # named sets come as 32x32: what the paper and all of our models use


def load_images(
    source: Source,
    split: str = "test",
    *,
    limit: int | None = None,
    seed: int = 0,
    image_shape: Shape | None = None,
    crop: bool = True,
    resize: bool = True,
    strict: bool = False,
    download: bool = False,
    reference: ImageSet | None = None,
) -> ImageSet:
    """Return the images of `source`: uint8 (N, C, H, W), with every step of their preparation in `steps`.

    Files that cannot be read are left out and listed in `skipped`, one sentence each; with `strict`, they are an error.

    Args:
        source: a registered name; a path to `.npz`, `.npy`, a `.zip` or folder of pictures, or one picture; a
            list of paths of pictures; a uint8 array (N, C, H, W), (N, H, W, 3) or (N, H, W); a tensor
            (N, C, H, W); an `ImageSet`; a list of PIL pictures; a torch `Dataset` or `DataLoader` of images or of
            (image, label); a Hugging Face `datasets.Dataset` or `DatasetDict`, or a streamed one, with a column of
            pictures.
        split: "train" or "test"; for what has no splits, only a label.
        limit: at most so many images, drawn without replacement by `seed`, kept in order; of a stream, which has no
            length, the first ones: shuffle it before where they are sorted.
        seed: of that draw, and of sets that are generated.
        image_shape: (C, H, W) to bring the images to. Without it, named sets have their own channels and
            32x32, everything else comes as it is.
        crop: whether a picture of other proportions is cropped at its centre; else it is squashed.
        resize: whether images that are not of `image_shape` may be brought to it; else they are refused. Named sets
            always are: how they are prepared belongs to them.
        strict: whether one picture that cannot be read is an error.
        download: whether a named set that is not on this machine may be fetched.
        reference: the in-distribution test images, for sets that are made from them.

    Raises:
        DataNotFoundError: nothing is there; the text says where it was looked for and how to get it.
        ImageError: the images are of a wrong kind, damaged, or of several sizes without `image_shape`; with `strict`,
            one of them cannot be read.
        OptionError: `limit` or `image_shape` makes no sense.
        UnknownNameError: `source` is neither a name nor a path.
    """
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise OptionError(f"limit is {limit!r}; it must be a whole number, at least 1, or None for all images.")
    if image_shape is not None:
        if len(image_shape) != 3 or not all(isinstance(side, int) and side >= 1 for side in image_shape):
            raise OptionError(f"image_shape is {image_shape}; it must be (channels, height, width), each at least 1.")
        channels, height, width = image_shape
        image_shape = channels, height, width  # a list will do
    if isinstance(source, str) and source in registry().datasets:
        request = DatasetRequest(
            split=split,
            image_shape=image_shape,
            count=limit,
            seed=seed,
            download=download,
            reference=reference,
        )
        images = _named(source, request, crop)
    else:
        images = _unnamed(source, split, limit, seed, image_shape, crop)
        if not resize and image_shape is not None:
            _refuse_conversion(images, image_shape)
    if strict and images.skipped:
        raise ImageError(
            f"{images.name}: {len(images.skipped)} of its pictures cannot be read. {images.skipped[0]} "
            "Mend or remove them, or leave out strict."
        )
    return images


def _unnamed(
    source: Source, split: str, limit: int | None, seed: int, image_shape: Shape | None, crop: bool
) -> ImageSet:
    if isinstance(source, (str, Path)):
        source = _existing(source)
        if source.suffix.lower() not in (".npz", ".npy") or source.is_dir():
            return load_pictures(source, split, limit=limit, seed=seed, image_shape=image_shape, crop=crop)
        images = load_array_file(source, split)
    elif type(source).__module__.partition(".")[0] == "datasets":  # its streams are torch data sets too
        return _from_hugging_face(source, split, limit, seed, image_shape, crop)
    elif isinstance(source, (Dataset, DataLoader)):
        return _from_torch(source, split, limit, seed, image_shape, crop)
    elif isinstance(source, ImageSet):
        images = source
    elif isinstance(source, Tensor):
        images = ImageSet("tensor", split, source.detach().cpu(), source="a tensor")
    elif isinstance(source, np.ndarray):
        images = ImageSet("array", split, images_of(source, "array"), source="an array")
    elif isinstance(source, (list, tuple)) and source and all(isinstance(p, Image.Image) for p in source):
        name, kind = f"{len(source)} pictures", "a list of PIL pictures"
        return _from_torch(_Listed(source), split, limit, seed, image_shape, crop, name, kind)
    elif isinstance(source, (list, tuple)) and source and all(isinstance(p, (str, Path)) for p in source):
        paths = [_existing(p) for p in source]
        return load_pictures(paths, split, limit=limit, seed=seed, image_shape=image_shape, crop=crop)
    else:
        raise ImageError(
            f"images cannot be made from {type(source).__name__}; pass the name of a data set, a path, "
            "a uint8 array or tensor, a list of PIL pictures, a torch Dataset or DataLoader, or a datasets.Dataset."
        )
    return _convert(images if limit is None else images.sample(limit, seed), image_shape, crop)


def _refuse_conversion(images: ImageSet, image_shape: Shape) -> None:
    """Refuse images that had to be brought to `image_shape`.

    Raises:
        ImageError: names the conversion that they need.
    """
    needed = [step for step in images.steps if step.startswith(("grey", "bilinear", "centre crop", "repeat"))]
    if needed:
        raise ImageError(
            f"{images.name}: images are not all {'x'.join(map(str, image_shape))}, which the model takes. Convert "
            f"them, or have them converted with --resize (resize=True): {'; '.join(needed)}."
        )


# --- names and paths ----------------------------------------------------------------------------------------


def _named(name: str, request: DatasetRequest, crop: bool) -> ImageSet:
    spec = registry().dataset(name).spec
    if request.split not in spec.splits:
        raise OptionError(f"{name} has no split {request.split!r}; it has {', '.join(spec.splits)}.")
    images = load_target(spec.target, name)(request)
    if not isinstance(images, ImageSet):
        raise PluginError(f"{name}: {spec.target!r} returned {type(images).__name__}, not an ImageSet.")
    if request.count is not None:
        images = images.sample(request.count, request.seed)
    of_models = images.image_shape if spec.derived else (images.image_shape[0], MODEL_SIDE, MODEL_SIDE)
    return _convert(replace(images, name=name, split=request.split), request.image_shape or of_models, crop)


def _existing(source: str | Path) -> Path:
    path = Path(os.path.expanduser(source))
    try:
        if source != "" and (path.is_file() or path.is_dir()):
            return path
        if source != "" and path.exists():  # a pipe: to open it would wait for ever
            raise DataNotFoundError(f"{source} is neither a file nor a folder; give the path of one.")
    except OSError as error:
        raise DataNotFoundError(f"{source} cannot be looked at ({error.strerror}); check the path.") from error
    if isinstance(source, str) and path.name == source and not path.suffix:
        raise UnknownNameError.of("data set (or file)", source, registry().datasets)
    raise DataNotFoundError(f"there is no file or folder {source}; check the path.")


# --- conversion --------------------------------------------------------------------------------------------


def _convert(images: ImageSet, image_shape: Shape | None, crop: bool) -> ImageSet:
    if image_shape is None or images.image_shape == tuple(image_shape):
        return images
    channels = images.image_shape[0]
    if channels not in (1, 3):
        raise ImageError(
            f"{images.name}: only grey (1) and colour (3) images can be converted, not {channels} channels."
        )
    rows = images.images.permute(0, 2, 3, 1).contiguous().numpy()  # (N, H, W, C)
    rows = rows[..., 0] if channels == 1 else rows
    prepared = (prepare(f"image {i}", Image.fromarray(row), image_shape, crop) for i, row in enumerate(rows))
    made = stack(images.name, prepared, image_shape, len(rows))
    return replace(images, images=made.images, steps=images.steps + made.steps)


# --- torch data sets ----------------------------------------------------------------------------------------


def _from_torch(
    source: AnyDataset,
    split: str,
    limit: int | None,
    seed: int,
    image_shape: Shape | None,
    crop: bool,
    name: str = "",
    kind: str = "",
) -> ImageSet:
    name = name or type(source.dataset if isinstance(source, DataLoader) else source).__name__
    kind = kind or f"a torch {name}"
    first = ""
    if isinstance(source, DataLoader) or isinstance(source, IterableDataset) or not hasattr(source, "__len__"):
        items, drawn = _loader_items(source) if isinstance(source, DataLoader) else iter(source), None
        total = 1  # not known before the end
        if limit is not None and not _has_length(source):  # it may have no end
            items, first = islice(items, limit), f", its first {limit}"
    else:
        drawn = draw_indices(len(source), limit, seed)
        items, total = (source[i] for i in drawn.tolist()), len(drawn)
    labels: list[int | str | None] = []

    def prepared() -> Iterator[Prepared | Refused]:
        for i, item in enumerate(items):
            image, label = _image_and_label(item)
            labels.append(read_label(label))
            yield prepare(f"image {i}", _as_picture(image, f"{name}, image {i}"), image_shape, crop)

    with quiet_pillow():
        made = stack(name, prepared(), image_shape, total)
    numbers = as_labels(name, [labels[i] for i in made.kept.tolist()])
    images = ImageSet(name, split, made.images, numbers, kind + first, made.steps, made.skipped)
    return images if limit is None or drawn is not None else images.sample(limit, seed)


def _has_length(source: object) -> bool:
    try:
        len(source)  # type: ignore[arg-type]  # whether it can be taken is what is asked
    except TypeError:  # a loader of a stream has __len__, and no length
        return False
    return True


class _Listed(Dataset[Image.Image]):
    """A list of pictures as a data set."""

    def __init__(self, pictures: Sequence[Any]) -> None:  # Any: the caller has looked: PIL pictures
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Image.Image:
        picture: Image.Image = self.pictures[index]
        return picture


class _Column(Dataset[tuple[Any, Any]]):  # Any: as torch has it
    """A Hugging Face data set's column of pictures, with its labels where it has any."""

    def __init__(self, rows: Any, pictures: str, labels: str | None) -> None:  # Any: a datasets.Dataset
        self.rows, self.pictures, self.labels = rows, pictures, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, Any]:  # Any: as torch has it
        return self.taken(self.rows[index])

    def taken(self, row: Any) -> tuple[Any, Any]:  # Any: as above
        """Return the picture and the label of a row."""
        return row[self.pictures], None if self.labels is None else row[self.labels]


class _Stream(IterableDataset[tuple[Any, Any]]):  # Any: as torch has it
    """The same of a data set that streams."""

    def __init__(self, column: _Column) -> None:
        self.column = column

    def __iter__(self) -> Iterator[tuple[Any, Any]]:  # Any: as torch has it
        return map(self.column.taken, self.column.rows)


def _from_hugging_face(
    source: Any,  # Any: `datasets` is no dependency; its objects are known by their module
    split: str,
    limit: int | None,
    seed: int,
    image_shape: Shape | None,
    crop: bool,
) -> ImageSet:
    """Return the pictures of a `datasets.Dataset`, or of the split of a `DatasetDict`.

    Raises:
        DataNotFoundError: there is no such split.
        ImageError: which column the pictures are cannot be told.
    """
    if isinstance(source, dict):
        if split not in source:
            raise DataNotFoundError(f"the DatasetDict has no split {split!r}; it has {', '.join(source)}.")
        source = source[split]
    if source.features is not None:
        columns = [name for name, kind in source.features.items() if type(kind).__name__ == "Image"]
        others = list(source.features)
    else:  # a stream may not know its columns before it is read
        row: dict[str, Any] = next(iter(source), {})  # Any: a column's value
        columns, others = [name for name, value in row.items() if isinstance(value, Image.Image)], list(row)
    if len(columns) != 1:
        raise ImageError(
            f"which column are the pictures? Of type Image are: {', '.join(columns) or 'none'} of "
            f"{', '.join(others) or 'no columns'}; select one with select_columns, or cast it with cast_column."
        )
    known = [name for name in ("label", "labels", "fine_label") if name in others]
    column = _Column(source, columns[0], known[0] if known else None)
    name = getattr(getattr(source, "info", None), "dataset_name", None) or type(source).__name__
    if _has_length(source):
        return _from_torch(column, split, limit, seed, image_shape, crop, str(name), "a Hugging Face data set")
    return _from_torch(_Stream(column), split, limit, seed, image_shape, crop, str(name), "a Hugging Face stream")


def _loader_items(loader: DataLoader[Any]) -> Iterator[Any]:  # Any: as above
    """Yield image by image, with its label, what the loader gives batch by batch or, with batch_size=None, as it is."""
    for batch in loader:
        images, labels = _image_and_label(batch)
        if loader.batch_sampler is None and (isinstance(images, Image.Image) or getattr(images, "ndim", 4) < 4):
            yield images, labels
            continue
        one_each = isinstance(labels, (Tensor, np.ndarray, tuple, list)) and len(labels) == len(images)
        yield from zip(images, labels if one_each else [labels] * len(images), strict=True)


def _image_and_label(item: Any) -> tuple[Any, Any]:  # Any: as above
    if not isinstance(item, (tuple, list)):
        return item, None
    return item[0], item[1] if len(item) > 1 else None


def _as_picture(image: object, name: str) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        array = np.moveaxis(array, 0, 2) if array.ndim == 3 else array  # (C, H, W) -> (H, W, C)
    elif isinstance(image, np.ndarray):
        array = image
    else:
        raise ImageError(f"{name} is {type(image).__name__}; a data set must give PIL pictures, tensors or arrays.")
    if array.dtype.kind == "f":
        array = _exact_bytes(array, name)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ImageError(
            f"{name} is {array.dtype} of shape {tuple(image.shape)}; oodkit takes uint8 tensors (C, H, W) "
            "and arrays (H, W, C), with 1 or 3 channels."
        )
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array))


def _exact_bytes(array: AnyArray, name: str) -> AnyArray:
    # The bytes that the floats came from: `ToTensor` divides by 255.
    scaled = array.astype(np.float64) * 255
    rounded = scaled.round()
    if not (np.abs(scaled - rounded) < 1e-3).all() or rounded.min() < 0 or rounded.max() > 255:
        raise ImageError(
            f"{name} has floats that are not n/255; leave out Normalize and augmentation, "
            "or give uint8: (images * 255).round().to(torch.uint8)."
        )
    return rounded.astype(np.uint8)
