"""Sets made from the in-distribution test images: what they show is the same, only changed."""

from collections.abc import Callable

import torch
from torch import Tensor

from oodkit import DatasetRequest, ImageSet, OptionError, perturbations

__all__ = ["dimmed", "flipped", "inverted", "jpeg", "mirrored", "rotated"]


def inverted(request: DatasetRequest) -> ImageSet:
    """Return 255 - x."""
    return _derived("inverted", request, lambda x: 255 - x, "255 - x")


def rotated(request: DatasetRequest) -> ImageSet:
    """Return the images turned by 90 degrees, anticlockwise; height and width change places."""
    return _derived("rotated", request, lambda x: torch.rot90(x, 1, (2, 3)).contiguous(), "90 degrees")


def flipped(request: DatasetRequest) -> ImageSet:
    """Return the images upside down."""
    return _derived("flipped", request, lambda x: x.flip(2), "upside down")


def dimmed(request: DatasetRequest) -> ImageSet:
    """Return the images at 0.3 of their brightness, rounded; halves up."""
    # In whole numbers: 0.3 has no exact float, and halves would be rounded by its error.
    return _derived("dimmed", request, lambda x: ((x.int() * 3 + 5) // 10).to(torch.uint8), "x 0.3")


def mirrored(request: DatasetRequest) -> ImageSet:
    """Return the images with left and right exchanged."""
    return _derived("mirrored", request, lambda x: x.flip(3), "left and right exchanged")


def jpeg(request: DatasetRequest) -> ImageSet:
    """Return the images after JPEG compression at quality 75, chroma at half the resolution (Pillow)."""
    return _derived("jpeg", request, perturbations.jpeg, "JPEG, quality 75")


def _derived(name: str, request: DatasetRequest, change: Callable[[Tensor], Tensor], step: str) -> ImageSet:
    if request.reference is None:
        raise OptionError(
            f"{name} is made from the in-distribution test images: pass them as reference, "
            f"oodkit.load_images({name!r}, reference=images)."
        )
    # Drawn first: a copy of all test images, to keep a few, would be waste.
    count = len(request.reference) if request.count is None else request.count
    chosen = request.reference.sample(count, request.seed)
    source = f"{chosen.name} ({chosen.split}): {chosen.source}"
    return ImageSet(
        name,
        request.split,
        change(chosen.images),
        chosen.labels,
        source,
        (*chosen.steps, f"{name} ({step})"),
        chosen.skipped,
    )
