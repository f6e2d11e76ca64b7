"""Where the work is done: `auto`, `cpu`, `cuda` or `cuda:1`."""

import os
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor

from oodkit.errors import DeviceError, OptionError

__all__ = ["device_name", "float32_convolutions", "in_batches", "resolve_device"]


Made = TypeVar("Made")


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device that `device` names; "auto" is the first CUDA device, or else the CPU.

    Raises:
        DeviceError: a text that is no device, or a CUDA device that this machine does not have.
    """
    if device == "auto":
        # torchrun: a GPU for each process of this machine
        return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise DeviceError(f"{device!r} is no device; choose auto, cpu, cuda or cuda:N.") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"this machine has no device {str(device)!r}: torch {torch.__version__} sees {torch.cuda.device_count()} "
            "CUDA devices; choose --device cpu, or auto."
        )
    if chosen.type not in ("cpu", "cuda"):
        raise DeviceError(f"oodkit runs on cpu and cuda, not on {device!r}.")
    return chosen


def device_name(device: torch.device) -> str:
    """Return the card's name, or "cpu, N threads": what stands beside every measured number."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' if threads > 1 else ''}"


class _Float32Convolutions:
    """The switch is torch's, one for all threads: the first to come remembers it, and the last to go puts it back."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._before: bool | None = None

    @contextmanager
    def __call__(self) -> Generator[None]:
        """Keep CUDA's convolutions in float32, as torch keeps matrix products; it is undone at the end.

        torch lets convolutions, and these alone, round to TF32 (10 bits instead of 23) unless it is told otherwise.
        With `torch.set_float32_matmul_precision("high")` both may.
        """
        with self._lock:
            if self._inside == 0:
                self._before = self._switch()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0 and self._before is not None:
                    torch.backends.cudnn.allow_tf32 = self._before

    def _switch(self) -> bool | None:
        """Set the switch and return what it was; None where it was set operator by operator, by who knows why."""
        try:
            before = torch.backends.cudnn.allow_tf32
            torch.backends.cudnn.allow_tf32 = torch.get_float32_matmul_precision() != "highest"
        except RuntimeError:
            return None
        return before


float32_convolutions = _Float32Convolutions()


def in_batches(function: Callable[[Tensor], Made], images: Tensor, size: int, device: torch.device) -> Iterator[Made]:
    """Yield `function` of each batch of images on `device`; where its memory runs out, in batches of half the size.

    Args:
        function: from uint8 (n, C, H, W) on `device`, with the same numbers for an image whatever its batch.
        images: uint8, (N, C, H, W).
        size: n, but for the last batch; it stays halved, with a warning.
        device: where the work is done.

    Raises:
        DeviceError: a single image needs more memory than there is.
        OptionError: `size` is below 1.
    """
    if size < 1:
        raise OptionError(f"batch_size is {size}; it must be at least 1 image.")
    start = 0
    while start < len(images):
        batch = images[start : start + size]
        try:
            made = function(batch.to(device))
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise DeviceError(
                    f"one image needs more memory than {device} has free; choose a smaller model, or another device."
                ) from None
            size = len(batch) // 2
        else:
            start += len(batch)
            yield made
            continue
        # After the handler: its traceback held the tensors.
        warnings.warn(f"the memory of {device} ran out; going on with {size} images at a time.", stacklevel=3)
        torch.cuda.empty_cache()
