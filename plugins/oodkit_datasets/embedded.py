"""Sets that come with scikit-learn: nothing is downloaded."""

import numpy as np
import torch
from sklearn.datasets import load_digits, load_sample_images

from oodkit import DatasetRequest, ImageError, ImageSet
from oodkit_datasets.generated import COUNT, generator

__all__ = ["digits", "photos"]

TEST_DIGITS = 500  # of 1,797
PATCH = 32


def digits(request: DatasetRequest) -> ImageSet:
    """Return the handwritten digits, (N, 1, 8, 8); the split is the same on every machine."""
    held = load_digits()
    order = np.random.RandomState(0).permutation(len(held.images))  # RandomState: its stream is frozen for good
    chosen = order[:TEST_DIGITS] if request.split == "test" else order[TEST_DIGITS:]
    images = (held.images[chosen] * (255 / 16)).round().astype(np.uint8)  # they come as 0..16
    return ImageSet(
        "digits",
        request.split,
        torch.from_numpy(images)[:, None],
        torch.from_numpy(held.target[chosen].astype(np.int64)),
        "scikit-learn, load_digits",
        ("0..16 -> 0..255",),
    )


def photos(request: DatasetRequest) -> ImageSet:
    """Return patches at random places, (N, 3, H, W), of the size that is asked for.

    Training patches come from the left halves of the photographs, test patches from the right ones.

    Raises:
        ImageError: a patch would be larger than half a photograph.
    """
    whole = torch.from_numpy(np.stack(load_sample_images().images))  # (2, 427, 640, 3)
    middle = whole.shape[2] // 2
    halves = whole[:, :, middle:] if request.split == "test" else whole[:, :, :middle]
    _, height, width = request.image_shape or (3, PATCH, PATCH)
    down, right = halves.shape[1] - height, halves.shape[2] - width  # the last places of a patch's corner
    if min(down, right) < 0:
        raise ImageError(
            f"photos: a patch of {height}x{width} does not fit into {halves.shape[1]}x{halves.shape[2]}; "
            "ask for smaller images."
        )
    count, random = request.count or COUNT, generator("photos", request)
    which, top, left = (torch.randint(n, (count, 1, 1), generator=random) for n in (len(halves), down + 1, right + 1))
    patches = halves[which, top + torch.arange(height)[:, None], left + torch.arange(width)]  # (N, H, W, 3)
    return ImageSet(
        "photos",
        request.split,
        patches.permute(0, 3, 1, 2).contiguous(),
        source=f"scikit-learn, load_sample_images, seed {request.seed}",
        steps=(f"{height}x{width} patches",),
    )
