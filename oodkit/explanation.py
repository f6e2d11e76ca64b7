"""`Explanation`: which of a detector's numbers make an image look strange."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Explanation"]


@dataclass(frozen=True)
class Explanation:
    """Named numbers per image, as a detector sees them.

    Attributes:
        names: the K numbers: layers, statistics, …
        z: how many standard deviations each lies from its mean over in-distribution images, (N, K), on the scale that
            the detector compares it on (often logarithmic); negative = lower than in-distribution.
        contributions: each number's share of the score, (N, K), or None where the score is no sum.
    """

    names: tuple[str, ...]
    z: Tensor
    contributions: Tensor | None = None
