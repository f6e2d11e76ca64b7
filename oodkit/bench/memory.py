"""`Memory`: what a model said of a batch, kept for the next detector of a grid that asks the same."""

import hashlib
import time
from collections.abc import Callable, Hashable
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from oodkit.gradients import BackwardPass
from oodkit.model import GenerativeModel

__all__ = ["Memory"]

LIMIT = 2**30  # bytes


class Memory:
    """Answers of one model, by question and batch: log-likelihoods by sampling, and backward passes.

    The detectors of a run share model and images. `nll`, `ic-*`, `lratio-*` ask for the same log p(x), all forms of
    ROSE for the same gradients, and EKFAC's second pass for those of its first.

    What comes after the memory is full is not kept: if it were kept instead of the oldest, a scan over more images
    than fit would throw each answer out just before it is asked for again.

    Args:
        model: it answers from this memory, and no other, until another is made for it.
        limit: bytes that the answers may take.

    Attributes:
        spared: seconds that the answers given so far took when they were made. A speed that is measured meanwhile
            adds them, so that it does not depend on which detector came first.
    """

    def __init__(self, model: GenerativeModel, limit: int = LIMIT) -> None:
        self.spared = 0.0
        self._model, self._room = ref(model), limit  # not the model itself, which holds this memory
        self._answers: dict[Hashable, tuple[Any, float]] = {}  # Any: what `make` returned
        # A function, not a method: where a detector copies its model, a method would be copied with all it remembers.
        model.recall = lambda *question: self._recall(*question)

    def forget(self) -> None:
        """Let all answers go; the model answers anew from now on."""
        self._answers.clear()
        if (model := self._model()) is not None:
            model.recall = None

    def _recall(self, model: GenerativeModel, question: Hashable, images: Tensor, make: Callable[[], Any]) -> Any:
        if model is not self._model():  # a copy, whose weights may have changed
            return make()
        versions = tuple(tensor._version for tensor in (*model.parameters(), *model.buffers()))
        pixels = images.contiguous().cpu().numpy().tobytes()
        key = question, versions, images.shape, hashlib.blake2b(pixels).digest()
        if key in self._answers:
            answer, seconds = self._answers[key]
            self.spared += seconds
            return answer
        start = _now(images.device)
        answer = make()
        seconds = _now(images.device) - start
        if (size := _bytes(answer)) <= self._room:
            self._room -= size
            self._answers[key] = answer, seconds
        return answer


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _bytes(answer: Tensor | BackwardPass) -> int:
    if isinstance(answer, Tensor):
        return answer.nbytes
    return sum(g.nbytes for g in answer.gradients.values()) + sum(
        t.nbytes for t in (answer.log_prob, *answer.statistics.values())
    )
