"""Saved models, detectors and checkpoints: one safetensors file each, with a JSON header inside. Never pickle.

A file is written under a temporary name and then renamed, so that a killed run or a full disk never leaves half of
one under the name of a whole one.
"""

import hashlib
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from oodkit.errors import ArtifactError

__all__ = ["read_artifact", "refuse_other_than_file", "saved_shape", "write_artifact", "write_atomically"]

MAX_SUBPIXELS = 200 * 2**20  # of one image: what `load_images` lets through
FORMAT = 1  # raised when an older oodkit could not read a new artifact


def write_artifact(path: str | Path, kind: str, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write `tensors` and `header` (plain JSON) to `path`, atomically.

    Args:
        path: the file; its folder must exist.
        kind: "model", "detector", "checkpoint" or "scores"; `read_artifact` asks for it again.
        header: what JSON can hold.
        tensors: any dtypes and shapes, from any device.

    Raises:
        ArtifactError: no space, no permission, no such folder.
    """
    text = json.dumps({"format": FORMAT, "kind": kind, **header})
    # Clones: safetensors refuses tensors that share memory.
    clones = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    write_atomically(Path(path), save(clones, {"oodkit": text, "sha256": _checksum(text, clones)}))


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    """Return SHA-256 of the header and of each tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that, at any moment, the whole old file or the whole new one is there.

    Where `path` is a link, the file that it leads to is written, and the link stays.

    Raises:
        ArtifactError: no space, no permission, no such folder, or there is a folder, a device or a pipe.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        refuse_other_than_file(path)
        # as `open` makes files, with the permissions that the umask leaves: tempfile's are for the user alone
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        raise ArtifactError(
            f"cannot write {path}: {error.strerror or error}. Free space there, or choose another folder."
        ) from error
    finally:
        with suppress(OSError):  # what failed was said above
            temporary.unlink(missing_ok=True)


def refuse_other_than_file(path: Path) -> None:
    """Refuse to write where there is something that is not a file: a rename would put a file in a device's place.

    Raises:
        ArtifactError: there is a folder, a device or a pipe.
    """
    if path.is_dir():
        raise ArtifactError(f"cannot write {path}: it is a folder; give the name of a file.")
    if path.exists() and not path.is_file():
        raise ArtifactError(f"cannot write {path}: it is a device or a pipe; give the name of a file.")


def _flush_folder(folder: Path) -> None:
    """Let a rename outlast a power cut, where the platform can."""
    with suppress(OSError):  # not every one opens folders
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def read_artifact(
    path: str | Path, kind: str, device: str | torch.device = "cpu"
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the tensors that `write_artifact` wrote.

    Raises:
        ArtifactError: no such file, damaged, not written by oodkit, of another kind, or of a newer oodkit.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"there is no file {path}.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # not a dict: has no iterator
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged or no safetensors file ({error}); make it again.") from error
    text = metadata.get("oodkit")
    if text is None:
        raise ArtifactError(f"{path} is a safetensors file that oodkit did not write.")
    if metadata.get("sha256", checksum := _checksum(text, tensors)) != checksum:
        raise ArtifactError(f"{path} is damaged (its checksum is another); make it again.")
    try:
        header = json.loads(text)
        found, version = header["kind"], int(header["format"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ArtifactError(f"{path}: its header is damaged ({error}); make it again.") from error
    if found != kind:
        raise ArtifactError(f"{path} holds a {found}, not a {kind}.")
    if version > FORMAT:
        raise ArtifactError(
            f"{path} was written by a newer oodkit (format {version}, this one reads {FORMAT}); upgrade."
        )
    return header, {name: tensor.to(device) for name, tensor in tensors.items()}


def saved_shape(value: object) -> tuple[int, int, int]:
    """Return the image shape of a header.

    Raises:
        ValueError: it is not one.
    """
    if not isinstance(value, list) or len(value) != 3 or not all(type(n) is int and 0 < n < 2**31 for n in value):
        raise ValueError(f"image_shape is {value!r}, not [channels, height, width]")
    c, h, w = value
    if c * h * w > MAX_SUBPIXELS:
        raise ValueError(f"image_shape is {value}: no image that oodkit reads is so large")
    return c, h, w
