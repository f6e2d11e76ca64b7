"""The IDX format of MNIST and its kin: a header of big-endian numbers, then bytes; gzipped or not."""

import gzip
import math
import struct
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from oodkit import DatasetRequest, ImageError, ImageSet

__all__ = ["read_idx", "read_idx_images"]

MAX_BYTES = 2**31  # far more than any of these sets; a damaged header may ask for anything
LARGE, MAX_RATIO = 2**30, 100  # as of arrays by path: what is larger and packed closer holds no images


def read_idx_images(path: Path, request: DatasetRequest) -> ImageSet:
    """Return the images of `…-images-idx3-ubyte[.gz]`, with the labels of the file beside it.

    Raises:
        ImageError: the file is damaged, or is another kind of IDX file.
    """
    images = read_idx(path)
    if images.ndim != 3:
        raise ImageError(f"{path}: has {images.ndim} axes where images have 3; download it anew.")
    beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    labels = read_idx(beside).long() if beside.exists() else None
    if labels is not None and labels.shape != (len(images),):
        raise ImageError(f"{beside}: {tuple(labels.shape)} labels for {len(images)} images; download both anew.")
    return ImageSet(path.name, request.split, images[:, None], labels, str(path))


def read_idx(path: Path) -> Tensor:
    """Return the numbers of an IDX file of bytes, uint8.

    Raises:
        ImageError: the file is damaged or does not hold bytes.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            packed = path.stat().st_size
            return _read(file, min(MAX_BYTES, max(LARGE, MAX_RATIO * packed)))
    except Exception as error:  # untrusted bytes: gzip, zlib and struct raise errors of their own
        raise ImageError(f"{path}: not an IDX file, or damaged ({error}); download it anew.") from error


def _read(file: IO[bytes], limit: int) -> Tensor:
    kind, axes = struct.unpack(">HBB", file.read(4))[1:]
    if kind != 0x08:
        raise ValueError("it does not hold unsigned bytes")
    shape = struct.unpack(f">{axes}I", file.read(4 * axes))
    size = math.prod(shape)
    if size > limit:
        raise ValueError(f"its header asks for {size} bytes")
    content = file.read(size)
    if len(content) < size:
        raise ValueError(f"it ends after {len(content)} of {size} bytes")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy()).reshape(shape)
