"""CIFAR's own files. Those for Python are pickles, which could run anything: they are never unpickled.

`pickletools.genops` lists the instructions of a pickle and follows none. The pixels are the one argument
as long as a whole number of images; the labels are the list of small numbers after their key.
"""

import pickletools
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oodkit import DataNotFoundError, DatasetRequest, ImageError, ImageSet

__all__ = ["read_cifar10_binary", "read_cifar10_python", "read_cifar100_binary", "read_cifar100_python"]

BYTES = 3 * 32 * 32  # of one image

# Instructions that may stand between a key and the first item of its list, and within that list.
KEEPING = {"BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE", "MARK", "APPENDS", "APPEND"}
NUMBERS = {"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1"}
KEY_TO_LIST = 10  # a key of bytes is itself a few instructions long in protocol 2


def read_cifar10_python(path: Path, request: DatasetRequest) -> ImageSet:
    """Return `cifar-10-batches-py`, of which `path` is the first batch."""
    return _joined((_unpickled(p, "labels") for p in _batches(path, "")), path, request)


def read_cifar100_python(path: Path, request: DatasetRequest) -> ImageSet:
    """Return `cifar-100-python/train` or `test`, with the fine labels."""
    return _joined([_unpickled(path, "fine_labels")], path, request)


def read_cifar10_binary(path: Path, request: DatasetRequest) -> ImageSet:
    """Return `cifar-10-batches-bin`, of which `path` is the first batch."""
    return _joined((_records(p, 1) for p in _batches(path, ".bin")), path, request)


def read_cifar100_binary(path: Path, request: DatasetRequest) -> ImageSet:
    """Return `cifar-100-binary/train.bin` or `test.bin`, with the fine labels."""
    return _joined([_records(path, 2)], path, request)


def _batches(first: Path, suffix: str) -> Iterator[Path]:
    if not first.name.startswith("data_batch_1"):
        yield first
        return
    for i in range(1, 6):
        batch = first.with_name(f"data_batch_{i}{suffix}")
        if not batch.is_file():
            raise DataNotFoundError(f"there is no file {batch}, though {first.name} is there; download the set anew.")
        yield batch


def _joined(batches: Iterable[tuple[Tensor, Tensor | None]], path: Path, request: DatasetRequest) -> ImageSet:
    pixels, labels = zip(*batches, strict=True)
    known = None if any(part is None for part in labels) else torch.cat(labels)
    return ImageSet(path.parent.name, request.split, torch.cat(pixels), known, str(path.parent))


def _records(path: Path, label_bytes: int) -> tuple[Tensor, Tensor]:
    content = path.read_bytes()
    if not content or len(content) % (label_bytes + BYTES):
        raise ImageError(f"{path}: {len(content)} bytes are not a whole number of images; download the set anew.")
    records = torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy()).reshape(-1, label_bytes + BYTES)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1].long()


def _unpickled(path: Path, labels_key: str) -> tuple[Tensor, Tensor | None]:
    try:
        content = path.read_bytes()
        pixels = [data for data in map(_as_bytes, _arguments(content)) if data]
        labels = _list_after(labels_key, content)
    except Exception as error:  # untrusted bytes: genops raises ValueError, struct.error, UnicodeError, …
        raise ImageError(f"{path}: not a CIFAR batch, or damaged ({error}); download the set anew.") from error
    if len(pixels) != 1:
        raise ImageError(f"{path}: has {len(pixels)} blocks of images where a CIFAR batch has one; download it anew.")
    images = torch.from_numpy(np.frombuffer(pixels[0], dtype=np.uint8).copy()).reshape(-1, 3, 32, 32)
    return images, torch.tensor(labels) if len(labels) == len(images) else None


def _arguments(content: bytes) -> Iterator[object]:
    return (argument for _, argument, _ in pickletools.genops(content))


def _as_bytes(argument: object) -> bytes | None:
    """Return an argument that is long enough to be images as bytes: Python 2 wrote them as latin-1 text."""
    if not isinstance(argument, (str, bytes, bytearray)) or not argument or len(argument) % BYTES:
        return None
    return argument.encode("latin-1") if isinstance(argument, str) else bytes(argument)


def _list_after(key: str, content: bytes) -> list[int]:
    instructions = pickletools.genops(content)
    if not any(argument in (key, key.encode()) for _, argument, _ in instructions):
        return []
    if not any(opcode.name == "EMPTY_LIST" for opcode, _, _ in islice(instructions, KEY_TO_LIST)):
        return []
    numbers = []
    for opcode, argument, _ in instructions:
        if opcode.name in NUMBERS:
            numbers.append(int(argument))
        elif opcode.name not in KEEPING:
            break
    return numbers
