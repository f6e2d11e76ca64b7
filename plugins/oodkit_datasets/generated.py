"""Sets that need no file: noise and constant images, drawn from the request's seed (Choi et al. 2021)."""

import hashlib

import torch
from torch import Tensor

from oodkit import DatasetRequest, ImageSet

__all__ = ["constant", "generator", "noise"]

COUNT = 1000
SHAPE = (1, 32, 32)


def noise(request: DatasetRequest) -> ImageSet:
    """Return images whose every value is uniform in 0..255."""
    channels, height, width = request.image_shape or SHAPE
    return _generated("noise", request, (channels, height, width))


def constant(request: DatasetRequest) -> ImageSet:
    """Return images of one value per channel, uniform in 0..255."""
    _, height, width = request.image_shape or SHAPE
    values = _generated("constant", request, ((request.image_shape or SHAPE)[0], 1, 1))
    images = values.images.expand(-1, -1, height, width).contiguous()
    return ImageSet("constant", request.split, images, source=values.source)


def generator(name: str, request: DatasetRequest) -> torch.Generator:
    """Return a generator of this set's own: no two sets, splits or seeds share their numbers."""
    digest = hashlib.sha256(f"{name} {request.split} {request.seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _generated(name: str, request: DatasetRequest, shape: tuple[int, ...]) -> ImageSet:
    images: Tensor = torch.randint(
        256, (request.count or COUNT, *shape), dtype=torch.uint8, generator=generator(name, request)
    )
    return ImageSet(name, request.split, images, source=f"generated, seed {request.seed}")
