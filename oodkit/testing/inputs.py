"""What plugins are checked on: small images, a small model, and when two results are the same."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from oodkit.images import ImageSet
from oodkit.model import GenerativeModel
from oodkit.named_models import train_model

__all__ = ["TOLERANCE", "assert_refused", "assert_same", "blobs", "inverted", "noise", "small_vae"]

# Kernels change with the batch size, so equal means: within this share of the scores' own size and spread.
TOLERANCE = 1e-3


def blobs(count: int, seed: int = 0) -> ImageSet:
    """Return smooth bright spots on a dark ground, uint8 (count, 1, 32, 32): in-distribution, for the checks.

    A spot's label says whether it is wide.
    """
    generator = torch.Generator().manual_seed(seed)
    centre = 8 + 16 * torch.rand(count, 2, 1, generator=generator)
    radius = 3 + 3 * torch.rand(count, 1, 1, generator=generator)
    axis = torch.arange(32.0)
    distance = (axis - centre[:, :1]).square()[..., None, :] + (axis - centre[:, 1:]).square()[..., :, None]
    images = 255 * torch.exp(-distance / (2 * radius[..., None].square()))
    return ImageSet("blobs", "train", images.round().to(torch.uint8), (radius.flatten() > 4.5).long())


def inverted(count: int, seed: int = 5) -> ImageSet:
    """Return ten dark spots each on a bright ground, uint8 (count, 1, 32, 32): an obvious stranger to `blobs`.

    Inverted, and of more detail: the file of an inverted image alone is as long as the image's own.
    """
    spots = blobs(10 * count, seed).images.view(10, count, 1, 32, 32).amax(0)
    return ImageSet("inverted", "test", 255 - spots)


def noise(count: int, seed: int = 1) -> ImageSet:
    """Return uniform noise, uint8 (count, 1, 32, 32): out-of-distribution, for the checks."""
    generator = torch.Generator().manual_seed(seed)
    return ImageSet("noise", "test", torch.randint(0, 256, (count, 1, 32, 32), generator=generator, dtype=torch.uint8))


def assert_same(actual: Tensor, expected: Tensor, what: str) -> None:
    """Fail unless the numbers agree to `TOLERANCE`.

    Raises:
        AssertionError: names the largest difference.
    """
    actual, expected = actual.double(), expected.double()
    # The median deviation, column by column: the standard one would be that of a few huge scores of noise.
    spread = (expected - expected.median(0).values).abs().median(0).values
    scale = expected.abs().maximum(spread + 1e-12)
    if not (worst := float(((actual - expected).abs() / scale).max())) <= TOLERANCE:
        raise AssertionError(f"{what}: scores differ by {worst:.2g} of their size; {TOLERANCE:g} is allowed.")


def assert_refused(call: Callable[[], object], error: type[Exception], what: str) -> None:
    """Fail unless `call` raises `error`.

    Raises:
        AssertionError: it returned, or raised something else.
    """
    try:
        call()
    except error:
        return
    except Exception as other:
        raise AssertionError(f"{what} gave {type(other).__name__} ({other}), not {error.__name__}.") from other
    raise AssertionError(f"{what} was not refused with {error.__name__}.")


@cache
def small_vae() -> GenerativeModel:
    """Return the model that all detectors and curvatures are checked on; none may change it.

    Trained until its encoder places new blobs well: a poorer one can be bettered most on the blobs themselves, and
    likelihood regret then has the wrong sign.
    """
    recipe: dict[str, Any] = {"epochs": 2, "batch_size": 8, "learning_rate": 4e-3}  # Any: an option's value
    return train_model("vae", blobs(1000), width=4, latent=4, device="cpu", **recipe)
