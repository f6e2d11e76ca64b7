"""SVHN's cropped digits, `train_32x32.mat` and `test_32x32.mat`."""

import math
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat, whosmat

from oodkit import DatasetRequest, ImageError, ImageSet

__all__ = ["read_mat"]

MAX_BYTES = 2**31  # far more than either file has
LARGE, MAX_RATIO = 2**30, 100  # as of arrays by path: what is larger and packed closer holds no images
NUMBERS = {
    "uint8": 1,
    "int8": 1,
    "uint16": 2,
    "int16": 2,
    "uint32": 4,
    "int32": 4,
    "uint64": 8,
    "int64": 8,
    "single": 4,
    "double": 8,
}


def read_mat(path: Path, request: DatasetRequest) -> ImageSet:
    """Return the images of X, (32, 32, 3, N), and the labels of y, where 10 stands for the digit 0.

    Raises:
        ImageError: the file is damaged, or is not SVHN's.
    """
    try:
        _check_sizes(path)
        held = loadmat(path, variable_names=["X", "y"])
        images, labels = np.asarray(held["X"]), np.asarray(held["y"]).astype(np.int64).reshape(-1) % 10
    except Exception as error:  # untrusted bytes: loadmat raises nearly anything
        raise ImageError(f"{path}: not SVHN's file, or damaged ({error}); download it anew.") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2:] != (3, len(labels)):
        raise ImageError(f"{path}: X is {images.dtype} of shape {images.shape}, y has {len(labels)}: not SVHN's file.")
    rows = np.ascontiguousarray(images.transpose(3, 2, 0, 1))  # (N, 3, 32, 32)
    return ImageSet("svhn", request.split, torch.from_numpy(rows), torch.from_numpy(labels), str(path))


def _check_sizes(path: Path) -> None:
    """Refuse what would take more memory than images do, by what the headers within the file say.

    Raises:
        ValueError: too large, or no plain numbers.
    """
    limit = min(MAX_BYTES, max(LARGE, MAX_RATIO * path.stat().st_size))
    for name, shape, kind in whosmat(path):
        if name in ("X", "y"):
            if kind not in NUMBERS:
                raise ValueError(f"{name} holds {kind}")
            if (size := math.prod(shape) * NUMBERS[kind]) > limit:
                raise ValueError(f"{name} has {size} bytes")
