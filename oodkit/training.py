"""Trains any model: progress, seeds, and checkpoints from which a killed run goes on with the same result."""

import contextlib
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oodkit.artifact import read_artifact, write_artifact
from oodkit.device import device_name, resolve_device
from oodkit.errors import ArtifactError, TrainingError
from oodkit.images import ImageSet, check_images
from oodkit.model import GenerativeModel, create_model
from oodkit.options import ModelOptions
from oodkit.progress import progress_bar

__all__ = ["train_model"]


def train_model(
    model: str | GenerativeModel,
    images: ImageSet | Tensor,
    *,
    seed: int = 0,
    device: str | torch.device = "auto",
    checkpoint: str | Path | None = None,
    **options: Any,  # Any: an option's value
) -> GenerativeModel:
    """Return a trained model, in evaluation mode.

    Args:
        model: a registered name, or a model to train on (a `fresh()` one, say), which is changed in place.
        images: uint8, (N, C, H, W), the in-distribution training images.
        seed: of the weights, the order of the images and the noise.
        device: "auto", "cpu", "cuda" or "cuda:N"; for a model that exists, where it is.
        checkpoint: a file written after every epoch and removed at the end. Where it exists, training goes on from
            there, with the same result as if it had never stopped.
        **options: the model's options; for a model that exists, its recipe's (epochs, learning_rate, …).

    Raises:
        TrainingError: the loss is no longer finite.
        ImageError: wrong dtype or shape, or no image at all.
        OptionError: an unknown option, or a value that is not allowed.
    """  # noqa: DOC502  # raised by what it calls
    data = images if isinstance(images, ImageSet) else ImageSet("images", "train", images)
    if isinstance(model, str):
        model = create_model(model, data.image_shape, seed=seed, device=device, **options)
        recipe = model.options
    else:
        recipe = type(model.options).parse(model.name, {**model.options.model_dump(), **options})
    check_images(data.images, data.name, model.image_shape)
    record = {
        "images": data.name,
        "split": data.split,
        "count": len(data),
        "hash": data.hash,
        "steps": list(data.steps),
        "seed": seed,
        "device": device_name(model.device),
        "torch": torch.__version__,
        "recipe": recipe.model_dump(),
    }
    trainer = _Trainer(model, data, recipe, seed, record)
    file = Path(checkpoint) if checkpoint is not None else None
    if file is not None and file.exists():
        # A damaged checkpoint, or one of other data or options, is not worth failing for: train from the start.
        with contextlib.suppress(ArtifactError):
            trainer.resume(file)
    trainer.run(file)
    if file is not None:
        file.unlink(missing_ok=True)
    model.training_record = record | trainer.result
    return model.eval()


class _Trainer:
    """One training run. All that changes is in `model`, `optimizer` and `epoch`: noise and order are the epoch's."""

    def __init__(
        self, model: GenerativeModel, data: ImageSet, recipe: ModelOptions, seed: int, record: dict[str, Any]
    ) -> None:
        self.model, self.data, self.recipe, self.seed, self.record = model, data, recipe, seed, record
        kind = {"adam": torch.optim.Adam, "adamax": torch.optim.Adamax}[recipe.optimizer]
        self.optimizer = kind(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        self.epoch = 0
        self.seconds = 0.0
        self.losses: list[float] = []  # nats per image, the mean of each epoch

    def run(self, checkpoint: Path | None) -> None:
        """Train from `self.epoch` to the last epoch."""
        steps = -(-len(self.data) // self.recipe.batch_size)
        total, done = self.recipe.epochs * steps, self.epoch * steps
        with progress_bar(f"train {self.model.name} on {self.data.name}", total=total, done=done) as bar:
            while self.epoch < self.recipe.epochs:
                start = time.perf_counter()
                self.losses.append(self._train_epoch(bar.advance))
                self.seconds += time.perf_counter() - start
                self.epoch += 1
                if checkpoint is not None:
                    self.save(checkpoint)

    @property
    def result(self) -> dict[str, Any]:
        """Return what the model's record says of the training beside its settings."""
        bits = [round(self.model.bits_per_dimension(loss), 5) for loss in self.losses]
        return {"bits_per_dimension": bits, "seconds": round(self.seconds, 1)}

    def _train_epoch(self, advance: Any) -> float:  # Any: Bar.advance
        # Seeded by the epoch, so that a resumed run sees the same order, flips and noise.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.model.train()
        order = torch.randperm(len(self.data), generator=generator)
        total = torch.zeros((), dtype=torch.float64, device=self.model.device)
        for step, indices in enumerate(order.split(self.recipe.batch_size)):
            images = self.data.images[indices]
            if self.recipe.flips:
                mirrored = torch.rand(len(images), generator=generator) < 0.5
                images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
            self._set_learning_rate(step, -(-len(order) // self.recipe.batch_size))
            loss = self.model.loss(images.to(self.model.device), generator)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            self.optimizer.step()
            total += loss.detach() * len(images)
            if step % 10 == 0:  # reading the loss waits for a GPU: not at every step
                self._check(loss.item())
                advance(0, f"{self.model.bits_per_dimension(loss.item()):.3f} bits/dim")
            advance()
        mean = total.item() / len(self.data)
        self._check(mean)
        return mean

    def _check(self, loss: float) -> None:
        if loss != loss or abs(loss) == float("inf"):
            raise TrainingError(
                f"training {self.model.name} on {self.data.name}: the loss is {loss} in epoch {self.epoch + 1}; "
                "choose a smaller learning_rate."
            )

    def _set_learning_rate(self, step: int, steps: int) -> None:
        rate = self.recipe.learning_rate
        if self.recipe.halve_every:
            rate *= 0.5 ** (self.epoch // self.recipe.halve_every)
        if self.recipe.warmup_epochs:
            rate *= min(1.0, (self.epoch + (step + 1) / steps) / self.recipe.warmup_epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def save(self, path: Path) -> None:
        """Write weights, optimizer and progress, atomically."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
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
        if header.get("record") != self.record:
            raise ArtifactError(f"{path} is a checkpoint of another training.")
        self.model.load_state_dict(
            {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        )
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.epoch, self.losses, self.seconds = header["epoch"], header["losses"], header["seconds"]
