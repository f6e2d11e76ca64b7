"""What a plugin must leave as it found it: global state, the model that it was lent, and memory."""

import gc
import os
import random
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from oodkit.model import GenerativeModel

__all__ = ["Surroundings", "repeat", "tensor_bytes", "watch"]


class Surroundings:
    """A picture of the global state and of one model, to be compared with later."""

    def __init__(self, model: GenerativeModel | None = None) -> None:
        self.model = model
        self.randomness = _random_states()
        self.settings = _settings()
        self.environment = dict(os.environ)
        self.weights = {k: v.clone() for k, v in model.state_dict().items()} if model is not None else {}
        self.shape = _shape_of(model)

    def assert_untouched(self) -> None:
        """Fail with the name of what changed."""
        changed = [name for name, state in _random_states().items() if state != self.randomness[name]]
        assert not changed, f"the global random state of {', '.join(changed)} was touched."
        now = _settings()
        moved = [
            f"{name} from {before} to {now[name]}" for name, before in self.settings.items() if now[name] != before
        ]
        assert not moved, f"a global setting was changed: {', '.join(moved)}."
        changed_names = {name for name, _ in self.environment.items() ^ dict(os.environ).items()}
        added = {name for name in changed_names if not name.startswith("KMP_")}  # scikit-learn sets these at its import
        assert not added, f"environment variables were changed: {', '.join(sorted(added))}."
        if self.model is not None:
            weights = self.model.state_dict()
            changed = [k for k, v in self.weights.items() if not torch.equal(v, weights[k])]
            assert not changed, f"the model's own weights changed: {', '.join(changed)}."
            assert _shape_of(self.model) == self.shape, "requires_grad or a hook or the mode of the model was changed."


def _random_states() -> dict[str, object]:
    on_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "torch on CUDA": [state.numpy().tobytes() for state in on_cuda],
        "NumPy": (kind, np.asarray(keys).tobytes(), *rest),
        "Python's random": random.getstate(),
    }


def _settings() -> dict[str, object]:
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "grad mode": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "matmul precision": _unless_mixed(torch.get_float32_matmul_precision),
        "TF32 in convolutions": _unless_mixed(lambda: torch.backends.cudnn.allow_tf32),
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "NumPy's errors": str(np.geterr()),
    }


def _unless_mixed(read: Callable[[], object]) -> object:
    try:
        return read()
    except RuntimeError:  # set operator by operator: torch refuses to say it in one word
        return "mixed"


def _shape_of(model: nn.Module | None) -> object:
    if model is None:
        return None
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()]
    return hooks, [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]


Result = TypeVar("Result")


def watch(work: Callable[[], Result], model: GenerativeModel | None = None) -> tuple[Result, str]:
    """Return what `work` gives, and what it changed around it; empty where that is nothing."""
    before = Surroundings(model)
    result = work()
    try:
        before.assert_untouched()
    except AssertionError as error:
        return result, str(error)
    return result, ""


def repeat(work: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """Return what `work` gives when it is done again, and the bytes of other tensors that outlive it.

    Again, because a cache that fills up once is no leak.
    """
    before = tensor_bytes()
    result = work()
    return result, tensor_bytes() - before - result.untyped_storage().nbytes()


def tensor_bytes() -> int:
    """Return the bytes of all tensors that are alive in this process, and of all that CUDA has lent out."""
    gc.collect()
    stored = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in gc.get_objects()
        if issubclass(type(t), torch.Tensor) and t.layout is torch.strided and t.device.type == "cpu"
    }
    on_cuda = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
    return int(sum(stored.values()) + on_cuda)
