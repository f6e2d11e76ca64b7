"""Several processes, one set of numbers: each takes its share of the images, and all get the whole result.

From the shell, `torchrun --standalone --nproc-per-node 2 -m oodkit fit …` does it. In a program, every process gives
the same images:

    with oodkit.shared_work():
        scores = detector.score(images)
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, distributed

from oodkit.errors import OptionError
from oodkit.images import ImageSet

__all__ = ["alone", "first_process", "from_first", "gathered", "share_of", "shared_work", "summed"]

_sharing: ContextVar[bool] = ContextVar("sharing", default=False)
_rank: ContextVar[int] = ContextVar("rank", default=0)


@contextmanager
def shared_work() -> Generator[None]:
    """Let `fit` and `score` of any detector share their images among the processes of a group, while the block runs.

    Outside of it nothing is shared: a program may use its processes for other things. Where there is no process group
    yet, one is made of what `torchrun` says, NCCL for tensors on CUDA and Gloo for those on the CPU, and ended with the
    block.

    Raises:
        OptionError: there is no process group, and the program was not started by `torchrun`.
    """
    ours = not distributed.is_initialized()
    if ours:
        if "RANK" not in os.environ:
            raise OptionError(
                "shared_work shares the images among processes, and there is one only; start the program with "
                "torchrun --standalone --nproc-per-node 2 PROGRAM, or leave shared_work out."
            )
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    tokens = _sharing.set(True), _rank.set(distributed.get_rank())
    try:
        yield
    finally:
        _sharing.reset(tokens[0])
        _rank.reset(tokens[1])
        if ours:
            distributed.destroy_process_group()


@contextmanager
def alone() -> Generator[None]:
    """Share nothing while the block runs: what is called for this process's share may call `score` of others."""
    token = _sharing.set(False)
    try:
        yield
    finally:
        _sharing.reset(token)


def first_process() -> bool:
    """Return whether this process is the one that speaks and writes files; the only one where nothing is shared."""
    return _rank.get() == 0


def _shares(count: int) -> bool:
    return _sharing.get() and count >= distributed.get_world_size()


def share_of(images: ImageSet) -> ImageSet:
    """Return this process's images: all where nothing is shared, or where there are fewer than processes."""
    if not _shares(len(images)):
        return images
    parts = torch.arange(len(images)).tensor_split(distributed.get_world_size())
    return images.select(parts[distributed.get_rank()])


def gathered(part: Tensor, count: int) -> Tensor:
    """Return the results of all `count` images, (count, …), of those of this process's share."""
    if not _shares(count):
        return part
    sizes = [len(i) for i in torch.arange(count).tensor_split(distributed.get_world_size())]
    padded = part.new_zeros(max(sizes), *part.shape[1:])
    padded[: len(part)] = part
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    return torch.cat([p[:size] for p, size in zip(parts, sizes, strict=True)])


def from_first(tensor: Tensor) -> Tensor:
    """Return what the first process has: a GPU that trains a network ends, in the last digits, where no other does."""
    if not _sharing.get():
        return tensor
    tensor = tensor.contiguous()
    distributed.broadcast(tensor, 0)
    return tensor


def summed(part: Tensor, count: int) -> Tensor:
    """Return the sum over all `count` images, of that over this process's share."""
    if _shares(count):
        distributed.all_reduce(part)
    return part
