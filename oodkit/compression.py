"""How long images are as compressed files: what a general-purpose compressor makes of them, without any model."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from itertools import chain
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image, features
from torch import Tensor

from oodkit.errors import ImageError, OptionError

__all__ = ["compress", "compressed_lengths", "compressor_versions"]

# name -> Pillow's arguments, the libraries at work (as Pillow's `features` names them)
COMPRESSORS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {  # Any: each format has its own
    # Level 9, each row's filter chosen by the encoder; zlib's default strategy (0), as OpenCV's and so the paper's:
    # Pillow's own choice moves MNIST's AUROC by 0.04.
    "png": ({"format": "PNG", "compress_level": 9, "compress_type": 0}, ("zlib", "zlib_ng")),
    # A JP2 file, boxes included, with the reversible 5/3 wavelet and no limit on its size.
    "jp2": ({"format": "JPEG2000", "irreversible": False}, ("jpg_2000",)),
    # With losses; quality 75, chroma at half the resolution.
    "jpeg": ({"format": "JPEG", "quality": 75}, ("jpg", "libjpeg_turbo")),
}


def compressed_lengths(images: Tensor, compressors: Sequence[str]) -> Tensor:
    """Return the length of each image's file in bytes, headers and all, float64 (N, len(compressors)), on the CPU.

    A file's header is as long for one image as for another of its shape: it moves no image before another.

    Args:
        images: uint8, (N, C, H, W), grey (C = 1) or colour (C = 3).
        compressors: of "png", "jp2" (both without loss) and "jpeg" (quality 75).

    Raises:
        ImageError: images of another number of channels.
        OptionError: an unknown compressor.
    """
    if images.shape[1] not in (1, 3):
        raise ImageError(
            f"only grey (1) and colour (3) images can be compressed, not {images.shape[1]} channels; leave the option "
            "lengths empty where the detector lets you, or choose another detector."
        )
    if unknown := set(compressors) - COMPRESSORS.keys():
        raise OptionError(f"there is no compressor {', '.join(sorted(unknown))}; there are {', '.join(COMPRESSORS)}.")
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()  # (N, H, W, C)
    pictures = pixels if pixels.shape[3] == 3 else pixels[..., 0]
    parts = np.array_split(
        pictures, os.cpu_count() or 1
    )  # one for each thread: handing over single images takes longer
    with ThreadPoolExecutor() as pool:
        columns = [
            # Pillow holds Python's lock while it encodes JPEG 2000: threads would only wait for each other.
            list(chain.from_iterable((map if name == "jp2" else pool.map)(partial(_lengths, name), parts)))
            for name in compressors
        ]
    return torch.tensor(columns, dtype=torch.float64).reshape(len(compressors), len(pixels)).T


def _lengths(compressor: str, pictures: NDArray[np.uint8]) -> list[int]:
    return [len(compress(picture, compressor)) for picture in pictures]


def compressor_versions(compressors: Sequence[str]) -> dict[str, str]:
    """Return the versions of Pillow and of the libraries behind these compressors, by name; lengths depend on them."""
    libraries = [library for name in compressors for library in COMPRESSORS[name][1]]
    found = {library: features.version(library) for library in libraries}
    return {"pillow": PIL.__version__, **{name: str(version) for name, version in found.items() if version}}


def compress(pixels: NDArray[np.uint8], compressor: str) -> bytes:
    """Return the file of one image, uint8 (H, W) or (H, W, 3)."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, **COMPRESSORS[compressor][0])
    return file.getvalue()
