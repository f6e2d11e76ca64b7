"""AUROC, AUPRC and FPR of OOD scores. Higher score = more OOD.

Each takes the scores of in-distribution and of OOD images, (N,) and (M,), as arrays, tensors or lists.
Infinities are scores like others; NaN counts as most OOD, with +inf. The pooled scores are ranked first and equal
ones keep one rank, so that nothing depends on their scale.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from oodkit.errors import OodkitError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["auprc", "auroc", "fpr_at_tpr"]

Scores: TypeAlias = "Sequence[float] | NDArray[Any] | Tensor"  # Any: of whatever dtype
Positive: TypeAlias = Literal["id", "ood"]


def auroc(id_scores: Scores, ood_scores: Scores) -> float:
    """Return P(an OOD image scores higher than an ID image), ties counted half: 0.5 is chance, 1 is best.

    Raises:
        OodkitError: one side is empty.
    """
    from sklearn.metrics import roc_auc_score

    is_ood, ranks = _rank(id_scores, ood_scores)
    return float(roc_auc_score(is_ood, ranks))


def auprc(id_scores: Scores, ood_scores: Scores, positive: Positive = "ood") -> float:
    """Return the area under the precision-recall curve, as average precision.

    Depends on the share of positives: compare it only between sets of the same sizes.

    Args:
        id_scores: of in-distribution images, (N,).
        ood_scores: of OOD images, (M,).
        positive: the class that is to be found; "id" gives the paper's Table 4.

    Raises:
        OodkitError: one side is empty.
    """
    from sklearn.metrics import average_precision_score

    is_positive, towards = _towards(positive, *_rank(id_scores, ood_scores))
    return float(average_precision_score(is_positive, towards))


def fpr_at_tpr(id_scores: Scores, ood_scores: Scores, tpr: float = 0.95, positive: Positive = "id") -> float:
    """Return the false positive rate at the strictest threshold that finds `tpr` of the positives; 0 is best.

    Args:
        id_scores: of in-distribution images, (N,).
        ood_scores: of OOD images, (M,).
        tpr: share of the positives that the threshold must find, in (0, 1].
        positive: "id", the custom of the field: the share of OOD images taken for ID. "ood": the share of ID
            images taken for OOD, which is what the printed Table 5 (FPR80) of Choi et al. 2021 shows.

    Raises:
        OodkitError: one side is empty, or `tpr` is out of its range.
    """
    from sklearn.metrics import roc_curve

    if not 0 < tpr <= 1:
        raise OodkitError(f"tpr is {tpr}; it must be in (0, 1].")
    is_positive, towards = _towards(positive, *_rank(id_scores, ood_scores))
    false_positive, true_positive, _ = roc_curve(is_positive, towards, drop_intermediate=False)
    return float(false_positive[np.argmax(true_positive >= tpr)])


def _rank(id_scores: Scores, ood_scores: Scores) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return who is OOD (0 or 1) and the dense rank of each pooled score, (N + M,) both."""
    known, other = _as_array(id_scores, "ID"), _as_array(ood_scores, "OOD")
    pooled = np.concatenate([known, other])
    pooled[np.isnan(pooled)] = np.inf
    _, ranks = np.unique(pooled, return_inverse=True)
    return np.repeat([0, 1], [len(known), len(other)]), ranks.astype(np.int64)


def _as_array(scores: Scores, side: str) -> NDArray[np.float64]:
    array = np.asarray(scores, dtype=np.float64).ravel()
    if not len(array):
        raise OodkitError(f"there are no {side} scores to compare.")
    return array


def _towards(
    positive: Positive, is_ood: NDArray[np.int64], ranks: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return who is positive, and ranks that are higher the more an image looks positive."""
    return (is_ood, ranks) if positive == "ood" else (1 - is_ood, -ranks)
