"""p-values of scores, and decisions that keep their false-alarm rate.

A score has no unit. Its rank among the scores of in-distribution images that neither model nor detector has seen has
one: under exchangeability P(p ≤ α) ≤ α for every α, whatever the detector and the data (conformal p-values: Vovk,
Gammerman and Shafer 2005; for OOD detection: Bates et al. 2023, arXiv:2104.08279).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from oodkit.errors import OptionError

__all__ = ["benjamini_hochberg", "check_alpha", "p_values"]


def p_values(scores: Tensor, calibration: Tensor) -> Tensor:
    """Return (1 + how many calibration scores are as high or higher) / (n + 1) for each score, (N,), float64.

    Args:
        scores: (N,), higher = more OOD.
        calibration: (n,), the scores of held-out in-distribution images, ascending.
    """
    above = len(calibration) - torch.searchsorted(calibration, scores.to(calibration))
    return (1 + above).double() / (len(calibration) + 1)


def benjamini_hochberg(p: Tensor | Sequence[float], alpha: float = 0.05) -> Tensor:
    """Return which of a batch are called OOD, bool (N,), with a false discovery rate of at most `alpha`.

    The rate: of the images called OOD, the expected share that are not. A decision of the whole batch: adding images
    can change it for the others. It holds for p-values that share one calibration set (Bates et al. 2023, theorem 2).

    Raises:
        OptionError: `alpha` is not between 0 and 1.

    Source: Benjamini & Hochberg 1995.
    """
    check_alpha(alpha)
    p = torch.as_tensor(p).double()
    ascending = p.sort().values
    passed = (ascending <= alpha * torch.arange(1, len(p) + 1, dtype=torch.float64, device=p.device) / len(p)).nonzero()
    if not len(passed):
        return torch.zeros_like(p, dtype=torch.bool)
    return p <= ascending[passed[-1, 0]]


def check_alpha(alpha: float) -> None:
    """Refuse a rate that is none.

    Raises:
        OptionError: `alpha` is not between 0 and 1.
    """
    if not (isinstance(alpha, int | float) and 0 < alpha < 1):
        raise OptionError(f"alpha is {alpha!r}; it is a false-alarm rate and must lie between 0 and 1.")
