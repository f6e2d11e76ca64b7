"""Random network distillation: a network learns to guess a random one on training images, and guesses badly elsewhere.

Source: Choi & Chung 2020, "Novelty Detection via Blurring", arXiv:1911.11943; random network distillation: Burda et al.
2018, arXiv:1810.12894.
"""

from dataclasses import replace

import torch
from torch import Tensor

from oodkit import Detector, ImageSet, ModelOptions, optimise
from oodkit.perturbations import perturb
from oodkit_svd_rnd.networks import Distillation, PredictionError, Stages
from oodkit_svd_rnd.options import RndOptions

__all__ = ["RandomNetworkDistillation"]

TARGET: dict[str, Stages] = {
    "paper": [(64, 0, 1), (64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)],
    "small": [(16, 0, 2), (32, 1, 2), (64, 1, 2)],
}
BEHIND: dict[str, Stages] = {  # the predictor is its target and two stages more
    "paper": [(1024, 1, 1), (512, 1, 1)],
    "small": [(64, 1, 1), (64, 1, 1)],
}
PAIRS = 64  # of an image and its perturbed twin, in a training step
DECAY_EPOCH = 25


class RandomNetworkDistillation(Detector[RndOptions]):
    """‖f(x) − g₀(x)‖²: f has learnt g₀ on images, and another random network, g₁, on perturbed images.

    Without g₁, f would guess g₀ well on any image that is simpler than those it was trained on.
    """

    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        if self.options.fitting_images is not None:
            images = images.sample(self.options.fitting_images, self.options.seed)
        architecture = self._architecture()
        target, predictor = TARGET[architecture], TARGET[architecture] + BEHIND[architecture]
        mean, deviation = self._moments(images)
        # torch's layers draw their weights from the global generator: fork it, so that the caller's stays as it was.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.options.seed)
            error = PredictionError(mean.cpu(), deviation.cpu(), target, predictor)
            distillation = Distillation(error, target)
        # Channels last: a third faster on a CPU. float32: whatever a program's default is.
        distillation.float().to(self.device, memory_format=torch.channels_last)
        recipe = ModelOptions(
            epochs=self.options.epochs,
            batch_size=PAIRS,
            learning_rate=self.options.learning_rate,
            decay_every=DECAY_EPOCH,
            decay=0.1,
        )
        self.training_record = optimise(
            distillation,
            self._pairs(images),
            recipe,
            name=self.name,
            seed=self.options.seed,
            checkpoint=self.work_folder / "predictor.safetensors" if self.work_folder is not None else None,
        )
        # The stages, beside the weights: "auto" may mean something else where the detector is loaded.
        stages = {"target_stages": torch.tensor(target), "predictor_stages": torch.tensor(predictor)}
        return {**stages, **{f"error.{key}": tensor for key, tensor in error.state_dict().items()}}

    def _score(self, images: Tensor) -> Tensor:
        distance: Tensor = self.from_state(self._error)(images)
        return distance

    def _architecture(self) -> str:
        if self.options.architecture != "auto":
            return self.options.architecture
        return "paper" if self.device.type == "cuda" else "small"

    def _error(self) -> PredictionError:
        """Return the networks of the state."""
        weights = {key.removeprefix("error."): w for key, w in self.state.items() if key.startswith("error.")}
        target, predictor = (
            [tuple(stage) for stage in self.state[f"{name}_stages"].tolist()] for name in ("target", "predictor")
        )
        with torch.device("meta"):  # no memory, no random numbers: every weight is assigned
            error = PredictionError(weights["mean"], weights["deviation"], target, predictor)
        error.load_state_dict(weights, assign=True)
        return error.eval().to(memory_format=torch.channels_last)

    def _pairs(self, images: ImageSet) -> ImageSet:
        """Return images of twice as many channels: each image's own, then those of its perturbed twin."""
        kind, strength = self.options.perturbation, self.options.strength
        generator = torch.Generator().manual_seed(self.options.seed)
        if kind == "random":  # not by shares: where several processes fit, each draws for all images, the same
            parts = [perturb(batch, kind, generator, strength) for batch in images.images.split(self.batch_size)]
            perturbed = torch.cat(parts)
        else:
            perturbed = self.per_image(lambda batch: perturb(batch, kind, generator, strength), images, text=kind)
        return replace(images, images=torch.cat([images.images, perturbed.cpu()], 1))

    def _moments(self, images: ImageSet) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each channel, (C, 1, 1), float64."""

        def sums(batch: Tensor) -> Tensor:  # (n, 2, C): of values and of their squares
            values = batch.double().flatten(2)
            return torch.stack([values.mean(2), values.square().mean(2)], 1)

        mean, square = self.per_image(sums, images, text="mean and deviation").mean(0)
        # At least one grey level: images that are all of one colour have no deviation to divide by.
        deviation = (square - mean.square()).clamp_min(1).sqrt()
        return mean[:, None, None], deviation[:, None, None]
