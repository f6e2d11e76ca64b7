"""Trains any module: progress, seeds, and checkpoints from which a killed run goes on with the same result."""

import contextlib
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from oodkit.artifact import read_artifact, write_artifact
from oodkit.device import device_name, float32_convolutions
from oodkit.errors import ArtifactError, DeviceError, TrainingError
from oodkit.images import ImageSet, check_labels
from oodkit.options import ModelOptions
from oodkit.progress import progress_bar

__all__ = ["Trainable", "optimise"]


class Trainable(nn.Module, ABC):
    """What `optimise` can train: a model, or a network that a detector trains in its `_fit`.

    Attributes:
        needs_labels: whether training takes `labelled_loss`, and refuses images without labels.
    """

    needs_labels: ClassVar[bool] = False

    @abstractmethod
    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean loss of uint8 (N, C, H, W), a scalar; any noise comes from `generator`."""

    def labelled_loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean loss of images with their labels, int64 (N,), a scalar; by default `loss`, without them."""
        del labels
        return self.loss(images, generator)


def optimise(
    module: Trainable,
    images: ImageSet,
    recipe: ModelOptions,
    *,
    name: str,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    show: Callable[[float], str] = "loss {:.4f}".format,
) -> dict[str, Any]:  # Any: what JSON can hold
    """Minimise `module.loss(images, generator)` in place and return the record of the training.

    Where the loss or a weight is no longer finite after at least one whole epoch, training stops with a warning, the
    weights are those of the last good epoch, and the record says so in `stopped`. (An error would be a dead end: from
    its checkpoint the training would come to the same step again.)

    Args:
        module: its parameters are changed in place; it is left in evaluation mode.
        images: the training images.
        recipe: epochs, batch size, optimizer, learning rate.
        name: what the progress bar calls it.
        seed: of the order of the images, the flips and the noise.
        checkpoint: a file written after every epoch. Where it exists, training goes on from there, with the same
            result as if it had never stopped. It is kept at the end: remove it once the result is safe.
        show: the text of a loss in the progress bar.

    Raises:
        TrainingError: the loss is not finite in the first epoch.
        DeviceError: a step needs more memory than the device has.
        ImageError: the module needs labels, and the images have none.
    """
    if module.needs_labels:
        check_labels(images, name)
    device = next(module.parameters()).device
    record = {
        "name": name,
        "images": images.name,
        "split": images.split,
        "count": len(images),
        "hash": images.hash,
        "steps": list(images.steps),
        "seed": seed,
        "device": device_name(device),
        "torch": torch.__version__,
        "recipe": recipe.model_dump(mode="json"),
        **({"labels": images.labels_hash} if module.needs_labels else {}),
    }
    trainer = _Trainer(module, images, recipe, seed, record, show)
    file = Path(checkpoint) if checkpoint is not None else None
    if file is not None and file.exists():
        # A damaged checkpoint, or one of other data or options, is not worth failing for: train from the start.
        with contextlib.suppress(ArtifactError):
            trainer.resume(file)
    fits = True
    with torch.inference_mode(False), float32_convolutions():
        try:
            trainer.run(file)
        except torch.OutOfMemoryError:
            fits = False
    if not fits:  # after the handler: its traceback held the tensors
        torch.cuda.empty_cache()
        # Half of the batch would train another model: batch statistics, and what sets itself by the first batches.
        raise DeviceError(
            f"training {name} on {images.name}: the memory of {device} ran out with {recipe.batch_size} images in a "
            "step; choose a smaller batch_size, a smaller model, or another device."
        )
    module.eval()
    stopped = {"stopped": trainer.stopped} if trainer.stopped else {}
    return {**record, "losses": trainer.losses, "seconds": round(trainer.seconds, 1), **stopped}


class _Trainer:
    """One training run. All that changes is in `module`, `optimizer` and `epoch`: noise and order are the epoch's."""

    def __init__(
        self,
        module: Trainable,
        data: ImageSet,
        recipe: ModelOptions,
        seed: int,
        record: dict[str, Any],
        show: Callable[[float], str],
    ) -> None:
        self.module, self.data, self.recipe, self.seed, self.record = module, data, recipe, seed, record
        self.show = show
        self.device = next(module.parameters()).device
        kind = {"adam": torch.optim.Adam, "adamax": torch.optim.Adamax}[recipe.optimizer]
        self.optimizer = kind(module.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        self.epoch = 0
        self.seconds = 0.0
        self.losses: list[float] = []  # per image, the mean of each epoch
        self.stopped = ""  # why, if before the last epoch

    def run(self, checkpoint: Path | None) -> None:
        """Train from `self.epoch` to the last epoch, or to the last good one.

        Raises:
            TrainingError: there is no good one.
        """
        steps = -(-len(self.data) // self.recipe.batch_size)
        total, done = self.recipe.epochs * steps, self.epoch * steps
        with progress_bar(f"train {self.record['name']} on {self.data.name}", total=total, done=done) as bar:
            while self.epoch < self.recipe.epochs:
                start = time.perf_counter()
                good = {k: v.clone() for k, v in self.module.state_dict().items()}
                try:
                    self.losses.append(self._train_epoch(bar.advance))
                except TrainingError as error:
                    if self.epoch == 0:
                        raise
                    self.module.load_state_dict(good)
                    self.stopped = f"{error} The weights are those of epoch {self.epoch}, the last good one."
                    warnings.warn(self.stopped, stacklevel=4)
                    return
                self.seconds += time.perf_counter() - start
                self.epoch += 1
                if checkpoint is not None:
                    self.save(checkpoint)

    def _train_epoch(self, advance: Callable[..., None]) -> float:  # see `Shown`
        # Seeded by the epoch, so that a resumed run sees the same order, flips and noise.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.module.train()
        order = torch.randperm(len(self.data), generator=generator)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for step, indices in enumerate(torch.split(order, self.recipe.batch_size)):
            images = self.data.images[indices]
            if self.recipe.flips:
                mirrored = torch.rand(len(images), generator=generator) < 0.5
                images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
            self._set_learning_rate(step, -(-len(order) // self.recipe.batch_size))
            self.optimizer.zero_grad()
            with torch.enable_grad():  # a caller may be inside of no_grad
                loss = self._loss(images.to(self.device), indices, generator)
                loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            self.optimizer.step()
            total += loss.detach() * len(images)
            if step % 10 == 0:  # reading the loss waits for a GPU: not at every step
                self._check(loss.item())
                advance(0, self.show(loss.item()))
            advance()
        mean = total.item() / len(self.data)
        self._check(mean)
        if not all(p.isfinite().all() for p in self.module.parameters()):  # after the last step, which no loss has seen
            self._check(float("nan"))
        return mean

    def _loss(self, images: Tensor, indices: Tensor, generator: torch.Generator) -> Tensor:
        if not self.module.needs_labels or self.data.labels is None:
            return self.module.loss(images, generator)
        return self.module.labelled_loss(images, self.data.labels[indices].to(self.device), generator)

    def _check(self, loss: float) -> None:
        if loss != loss or abs(loss) == float("inf"):
            raise TrainingError(
                f"training {self.record['name']} on {self.data.name}: the loss is {loss} in epoch {self.epoch + 1}; "
                "choose a smaller learning_rate."
            )

    def _set_learning_rate(self, step: int, steps: int) -> None:
        rate = self.recipe.learning_rate
        if self.recipe.decay_every:
            rate *= self.recipe.decay ** (self.epoch // self.recipe.decay_every)
        if self.recipe.warmup_epochs:
            rate *= min(1.0, (self.epoch + (step + 1) / steps) / self.recipe.warmup_epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def save(self, path: Path) -> None:
        """Write weights, optimizer and progress, atomically."""
        tensors = {f"module.{k}": v for k, v in self.module.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in values.items()}
        header = {"record": self.record, "epoch": self.epoch, "losses": self.losses, "seconds": self.seconds}
        write_artifact(path, "checkpoint", header, tensors)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same training.

        Raises:
            ArtifactError: damaged, or of another training.
        """
        header, tensors = read_artifact(path, "checkpoint")
        if _settings(header.get("record", {})) != _settings(self.record):
            raise ArtifactError(f"{path} is a checkpoint of another training.")
        self.module.load_state_dict(
            {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")}
        )
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.epoch, self.losses, self.seconds = header["epoch"], header["losses"], header["seconds"]


def _settings(record: dict[str, Any]) -> dict[str, Any]:  # Any: what JSON can hold
    """Return what decides whether a checkpoint belongs to a training: another machine may go on with it."""
    return {key: value for key, value in record.items() if key not in ("device", "torch")}
