"""Why a score is high: which of a detector's numbers stand out, and which part of the picture raises them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from oodkit.errors import OptionError

if TYPE_CHECKING:
    from oodkit.detector import Detector

__all__ = ["Explanation", "Number", "draw_map", "occlusion_map"]


class Number(NamedTuple):
    """One of the numbers behind an image's score."""

    name: str
    z: float  # standard deviations from its mean over in-distribution images
    share: float | None  # of the score; None where the score is no sum


@dataclass(frozen=True, eq=False)  # tensors have no one answer to ==
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

    def largest(self, index: int, count: int) -> list[Number]:
        """Return the `count` numbers of an image that matter most, by their share of the score or else by |z|."""
        z = self.z[index]
        weight = z.abs() if self.contributions is None else self.contributions[index]
        total = float(weight.sum()) or 1.0
        return [
            Number(self.names[k], float(z[k]), None if self.contributions is None else float(weight[k]) / total)
            for k in weight.argsort(descending=True)[:count].tolist()
        ]


def occlusion_map(detector: "Detector[Any]", image: Tensor, patch: int = 4) -> Tensor:  # Any: options of any detector
    """Return how much the score falls when each patch is covered, (H/patch, W/patch), float32.

    Positive: what is there makes the image look strange; negative: it makes it look ordinary. A patch is covered by
    the median, per channel, of the pixels within `patch` of it, so that the cover itself adds little. It costs one
    score for each patch, and works for every detector.

    Args:
        detector: fitted.
        image: uint8, (C, H, W), of the detector's `image_shape`.
        patch: side in pixels; it must divide height and width, and be smaller than one of them.

    Raises:
        OptionError: `patch` does not divide the image, or is all of it.

    Source: Zeiler & Fergus 2014, arXiv:1311.2901, section 4.2.
    """
    channels, height, width = image.shape
    if patch < 1 or height % patch or width % patch:
        raise OptionError(f"patch is {patch}; it must divide {height}x{width} images.")
    rows, columns = height // patch, width // patch
    if rows * columns == 1:
        raise OptionError(f"patch is {patch}, the whole image: there is nothing around it to cover it with.")
    covered = [image]
    for top in range(0, height, patch):
        for left in range(0, width, patch):
            around = torch.zeros(height, width, dtype=torch.bool)
            around[max(0, top - patch) : top + 2 * patch, max(0, left - patch) : left + 2 * patch] = True
            around[top : top + patch, left : left + patch] = False
            changed = image.clone()
            cover = image[:, around].median(1).values.view(channels, 1, 1)
            changed[:, top : top + patch, left : left + patch] = cover
            covered.append(changed)
    scores = detector.score(torch.stack(covered))
    falls = torch.where(scores[1:] == scores[0], 0.0, scores[0] - scores[1:])  # of infinite scores, infinity or 0
    return falls.view(rows, columns)


def draw_map(image: Tensor, heat: Tensor, side: int = 256) -> Image.Image:
    """Return the picture beside itself under the map: red where covering lowers the score, blue where it raises it.

    Args:
        image: uint8, (C, H, W), grey or colour.
        heat: (h, w), as `occlusion_map` returns it; its largest absolute value is drawn in full colour.
        side: of the larger edge of each of the two pictures, in pixels.
    """
    _, height, width = image.shape
    size = (round(height * side / max(height, width)), round(width * side / max(height, width)))
    picture = F.interpolate(image[None].double(), size=size, mode="nearest")[0].expand(3, *size) / 255
    strength = (heat / heat.abs().max().clamp_min(1e-12)).double()
    smooth = F.interpolate(strength[None, None], size=size, mode="bilinear")[0]
    red, blue = (torch.tensor(c, dtype=torch.float64).view(3, 1, 1) for c in ([0.9, 0.1, 0.1], [0.1, 0.3, 0.9]))
    colour = torch.where(smooth > 0, red, blue)
    opacity = 0.75 * smooth.abs()
    under = picture.mean(0, keepdim=True).expand(3, *size) * (1 - opacity) + colour * opacity
    both = torch.cat([picture, torch.ones(3, size[0], 8, dtype=torch.float64), under], 2)
    return Image.fromarray((both * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
