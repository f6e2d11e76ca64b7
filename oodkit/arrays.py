"""Images from arrays, and from the .npy and .npz files that hold them, which nobody vouches for."""

import math
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import ZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oodkit.errors import ImageError
from oodkit.images import ImageSet
from oodkit.pictures import MAX_SET_BYTES

__all__ = ["AnyArray", "images_of", "load_array_file"]

AnyArray: TypeAlias = NDArray[Any]  # Any: what the user passes, before its dtype is checked

LARGE, MAX_RATIO = 2**30, 100  # an array above this size, in bytes, that is packed closer than this holds no images


def load_array_file(path: Path, split: str) -> ImageSet:
    """Return the images of a .npy or .npz file, with the labels where a .npz has them.

    Raises:
        ImageError: damaged, too large, of another kind of numbers, or of a shape that is not one of images; labels that
            are no whole numbers, one for each image.
    """
    labels = None
    try:
        if path.suffix.lower() == ".npz":
            array, labels = _read_npz(path)
        else:
            _check_header(path)
            array = np.load(path, allow_pickle=False)
    except ImageError:
        raise
    except Exception as error:  # untrusted bytes: NumPy and zipfile raise nearly anything
        raise ImageError(f"{path}: not a {path.suffix} file of plain numbers, or damaged ({error}).") from error
    images = images_of(array, str(path))
    if labels is None:
        return ImageSet(path.name, split, images, source=str(path))
    if labels.shape != (len(images),):
        raise ImageError(f"{path}: {len(images)} images but labels of shape {labels.shape}; save one label per image.")
    if labels.dtype.kind not in "iub":
        how = "labels.astype('int64')" if labels.dtype.kind == "f" else "numpy.unique(labels, return_inverse=True)[1]"
        raise ImageError(f"{path}: labels are {labels.dtype}; save whole numbers, which {how} makes of them, or none.")
    return ImageSet(path.name, split, images, torch.from_numpy(labels.astype(np.int64)), str(path))


def _check_header(path: Path) -> None:
    """Refuse a .npy file by what its header says, before memory is taken for it.

    Raises:
        ImageError: too large, or no uint8.
        ValueError: no header, or a shorter file than it says.
    """
    with path.open("rb") as file:
        if np.lib.format.read_magic(file) == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:  # of 2.0; 3.0 is for names of columns, which images have not
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        if not dtype.hasobject:  # which np.load refuses to unpickle
            _check_dtype(dtype, str(path))
        size = math.prod(shape)
        if size > MAX_SET_BYTES:
            raise ImageError(f"{path}: an array of {size / 2**30:.0f} GiB is too large; save fewer images.")
        if size > (there := path.stat().st_size - file.tell()):
            raise ValueError(f"it ends after {there} of {size} bytes")


def _read_npz(path: Path) -> tuple[AnyArray, AnyArray | None]:
    with ZipFile(path) as archive:
        members = archive.infolist()
    size = max((member.file_size for member in members), default=0)
    if size > MAX_SET_BYTES:
        raise ImageError(f"{path}: an array of {size / 2**30:.0f} GiB is too large; save fewer images.")
    if any(m.file_size > max(LARGE, MAX_RATIO * m.compress_size) for m in members):
        raise ImageError(
            f"{path}: {sum(m.compress_size for m in members):,} bytes would become {size / 2**30:.1f} GiB, which no "
            "images do; save them anew with numpy.savez if they are yours."
        )
    with np.load(path, allow_pickle=False) as arrays:
        others = [key for key in arrays.files if key != "labels"]
        if "images" not in others and len(others) != 1:
            held = ", ".join(arrays.files) or "nothing"
            raise ImageError(f"{path}: which array are the images? It holds {held}; name one 'images'.")
        images = arrays["images" if "images" in others else others[0]]
        return images, arrays["labels"] if "labels" in arrays.files else None


def _check_dtype(dtype: np.dtype[Any], name: str) -> None:  # Any: what the user passes
    if dtype == np.uint8:
        return
    how = (
        "(images * 255).round().astype('uint8') makes them from floats in [0, 1]"
        if dtype.kind == "f"
        else "images.astype('uint8') makes them if the values are 0..255"
    )
    raise ImageError(f"{name}: images are {dtype}; oodkit takes uint8, 0..255. {how}.")


def images_of(array: AnyArray, name: str) -> Tensor:
    """Return an array as images, uint8 (N, C, H, W): a copy, for the user's may change later, or be read-only.

    Raises:
        ImageError: no uint8, or a shape that is not one of images.
    """
    _check_dtype(array.dtype, name)
    if array.ndim == 3 and array.shape[2] in (3, 4):
        raise ImageError(
            f"{name}: an array of shape {array.shape} may be one colour picture or images {array.shape[2]} pixels "
            "wide; for one picture give images[None], for grey images images[:, None]."
        )
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = np.moveaxis(array, 3, 1)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise ImageError(
            f"{name}: an array of shape {array.shape} is not one of images; "
            "oodkit takes (N, H, W), (N, H, W, 3) or (N, C, H, W) with C = 1 or 3."
        )
    return torch.tensor(np.ascontiguousarray(array))
