"""Where the work is done: `auto`, `cpu`, `cuda` or `cuda:1`."""

import os

import torch

from oodkit.errors import DeviceError

__all__ = ["device_name", "resolve_device"]


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
