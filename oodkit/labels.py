"""Labels of a data set's images come in many forms: whole numbers are used, others left out with a word."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_labels", "read_label"]


def read_label(label: object) -> int | str | None:
    """Return a label that is one whole number, in whatever form; in words what it is instead; None where it is None."""
    if isinstance(label, Tensor) and label.numel() == 1:
        label = label.item()
    elif isinstance(label, (np.ndarray, np.generic)) and label.size == 1:
        label = label.item()
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if isinstance(label, int) and -(2**63) <= label < 2**63:
        return int(label)  # of True and False too
    if label is None:
        return None
    if isinstance(label, (int, float, str)):
        return repr(label)[:40]
    shape = getattr(label, "shape", None)
    return f"a {type(label).__name__}" + (f" of shape {tuple(shape)}" if isinstance(shape, (tuple, torch.Size)) else "")


def as_labels(name: str, read: Sequence[int | str | None]) -> Tensor | None:
    """Return what `read_label` gave, int64 (N,); None where none has one or, with a warning, some are no numbers."""
    odd = next((i for i, label in enumerate(read) if not isinstance(label, int)), None)
    if odd is None:
        return torch.tensor(read, dtype=torch.int64)
    if any(label is not None for label in read):
        held = read[odd] or "none"
        warnings.warn(f"{name}: image {odd} has {held}; labels are whole numbers, so all are left out.", stacklevel=5)
    return None
