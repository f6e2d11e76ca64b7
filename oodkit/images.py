"""`ImageSet`: images in the one form that crosses every interface, uint8 `(N, C, H, W)`, 0..255.

`load_images` turns whatever a user has (a name, a path, an array, a tensor, a torch data set) into one.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from oodkit.errors import ImageError

__all__ = ["DatasetRequest", "ImageSet"]

Shape = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True, eq=False)  # tensors have no one answer to ==
class ImageSet:
    """Images and where they come from.

    Attributes:
        name: the data set's name, or the file's.
        split: "train" or "test".
        images: uint8, (N, C, H, W), on the CPU.
        labels: int64, (N,), where known. No detector needs them; a classifier is trained with them.
        source: the file or the package that the images were read from.
        steps: how they were prepared, in order ("grey (PIL L)", "bilinear 28x28 -> 32x32"): the resize chain.
        skipped: one sentence for each picture file that could not be read.
        names: of the picture files, one for each image, within their folder or .zip; empty where there are none.

    Raises:
        ImageError: wrong dtype or shape, or no image at all.
    """

    name: str
    split: str
    images: Tensor = field(repr=False)
    labels: Tensor | None = field(default=None, repr=False)
    source: str = ""
    steps: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_images(self.images, self.name)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> Shape:
        """Channels, height, width."""
        c, h, w = self.images.shape[1:]
        return c, h, w

    @cached_property
    def hash(self) -> str:
        """SHA-256 of shape and pixels: equal for equal images, wherever they came from."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        for batch in self.batches(4096):
            digest.update(batch.contiguous().numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def labels_hash(self) -> str:
        """SHA-256 of the labels; empty where there are none."""
        return "" if self.labels is None else hashlib.sha256(self.labels.long().numpy().tobytes()).hexdigest()

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield uint8 (n, C, H, W) with n = `size` but for the last; in order."""
        yield from torch.split(self.images, size)

    def select(self, indices: Tensor) -> "ImageSet":
        """Return the images at `indices`, int64 (M,), in that order."""
        labels = None if self.labels is None else self.labels[indices]
        names = tuple(self.names[i] for i in indices.tolist()) if self.names else ()
        return replace(self, images=self.images[indices], labels=labels, names=names)

    def sample(self, count: int, seed: int = 0) -> "ImageSet":
        """Return `count` images drawn without replacement, kept in order; all where there are no more."""
        return self if count >= len(self) else self.select(draw_indices(len(self), count, seed))


@dataclass(frozen=True, kw_only=True)
class DatasetRequest:
    """What a data set's function is asked for (`DatasetSpec.target`).

    The function returns the images as they are, at most converted to uint8 (N, C, H, W): the core brings them
    to `image_shape` and draws `count` of them. Where decoding is dear, it may do both by itself (with
    `oodkit.load_images`). Generated sets make `count` images of `image_shape` from `seed`.
    """

    split: str = "test"
    image_shape: Shape | None = None
    count: int | None = None
    seed: int = 0
    download: bool = False
    reference: ImageSet | None = None  # the in-distribution test images, for sets with `derived=True`


def draw_indices(total: int, count: int | None, seed: int) -> Tensor:
    """Return `count` of `total` indices without replacement, int64, ascending; all where there are no more.

    The one draw for every source: a folder, sampled before it is decoded, gives what its images would give.
    """
    if count is None or count >= total:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].sort().values


def check_labels(images: ImageSet, owner: str, classes: int | None = None) -> None:
    """Refuse images that `owner`, which is trained with labels 0..classes-1, cannot be trained on.

    Raises:
        ImageError: no labels, not one whole number for each image, or labels outside of the classes.
    """
    if images.labels is None:
        raise ImageError(
            f"{owner} is trained with labels, and {images.name} has none; choose a set that has them (digits, "
            "fashion-mnist), pictures in a folder for each class, or an .npz with arrays `images` and `labels`."
        )
    if images.labels.shape != (len(images),) or images.labels.is_floating_point():
        raise ImageError(
            f"{images.name}: {len(images)} images but labels of shape {tuple(images.labels.shape)} and type "
            f"{images.labels.dtype}; give one whole number for each image."
        )
    low, high = int(images.labels.min()), int(images.labels.max())
    if low < 0 or (classes is not None and high >= classes):
        raise ImageError(
            f"{images.name} has labels {low}..{high}, and {owner} has classes 0..{(classes or high + 1) - 1}; "
            f"number the labels from 0, or set {owner}.classes={high + 1}."
        )


def check_images(images: Tensor, name: str = "images", shape: Shape | None = None) -> None:
    """Refuse what is not a batch of images.

    Raises:
        ImageError: not a tensor, not uint8, not (N, C, H, W), none at all, or not of `shape`.
    """
    if not isinstance(images, Tensor):
        raise ImageError(
            f"{name}: expected a tensor or an ImageSet, not {type(images).__name__}; see oodkit.load_images."
        )
    if images.dtype != torch.uint8:
        raise ImageError(
            f"{name}: images are {images.dtype}; oodkit takes torch.uint8, 0..255. "
            "For floats in [0, 1], pass (images * 255).round().to(torch.uint8)."
        )
    if images.ndim != 4:
        raise ImageError(f"{name}: images have shape {tuple(images.shape)}; oodkit takes (N, C, H, W).")
    if images.shape[0] == 0 or 0 in images.shape:
        raise ImageError(f"{name}: there are no images (shape {tuple(images.shape)}).")
    if shape is not None and tuple(images.shape[1:]) != shape:
        raise ImageError(
            f"{name}: images are {'x'.join(map(str, images.shape[1:]))}, "
            f"the model takes {'x'.join(map(str, shape))}; "
            "convert them with oodkit.load_images(…, image_shape=model.image_shape)."
        )
