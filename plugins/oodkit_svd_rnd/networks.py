"""Residual networks from images to features, and the distillation of two random ones into a third."""

import torch
from torch import Tensor, nn

from oodkit import Trainable

__all__ = ["Distillation", "FeatureNetwork", "PredictionError", "Stages"]

Stages = list[tuple[int, int, int]]  # channels, blocks, stride at the start; the first one is a bare convolution


class FeatureNetwork(nn.Module):
    """A residual network without its classifier: the average of the last stage's maps, (N, channels of that stage).

    Args:
        channels: of the images.
        stages: ReLU stands between them, and not behind the last: features may be negative.
        normalised: with batch normalisation. Random targets have none: with its first weights and statistics, which
            no training changes, it would leave everything as it is.
    """

    def __init__(self, channels: int, stages: Stages, *, normalised: bool) -> None:
        super().__init__()
        (width, _, stride), *stages = stages
        layers = _convolution(channels, width, stride, normalised)
        for outputs, blocks, stride in stages:
            layers.append(nn.ReLU())
            for block in range(blocks):
                layers.append(_Block(width, outputs, 1 if block else stride, normalised))
                width = outputs
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return features, (N, F), of standardised images (N, C, H, W)."""
        maps: Tensor = self.layers(x)
        return maps.mean((2, 3))


class _Block(nn.Module):
    """x + g(x), with one ReLU inside g and none behind the sum; x is projected where its shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, normalised: bool) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_convolution(inputs, outputs, stride, normalised),
            nn.ReLU(),
            *_convolution(outputs, outputs, 1, normalised),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Sequential(*([] if same else _convolution(inputs, outputs, stride, normalised, kernel=1)))

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.shortcut(x) + self.residual(x)
        return total


def _convolution(inputs: int, outputs: int, stride: int, normalised: bool, kernel: int = 3) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)] if normalised else [convolution]


class PredictionError(nn.Module):
    """‖f(x) − g₀(x)‖² of a predictor f and a fixed random target g₀.

    Args:
        mean: of each channel of the training images, (C, 1, 1).
        deviation: likewise the standard deviation.
        target: the stages of g₀.
        predictor: the stages of f.
    """

    def __init__(self, mean: Tensor, deviation: Tensor, target: Stages, predictor: Stages) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("deviation", deviation.float())
        self.target = FeatureNetwork(len(mean), target, normalised=False).requires_grad_(False)
        self.predictor = FeatureNetwork(len(mean), predictor, normalised=True)

    def standardised(self, images: Tensor) -> Tensor:
        """Return images (…, C, H, W) with the training images' mean taken away, in units of their deviation."""
        x: Tensor = (images.float() - self.mean) / self.deviation
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Return the error, (N,), of uint8 (N, C, H, W)."""
        x = self.standardised(images)
        difference: Tensor = self.predictor(x) - self.target(x)
        return difference.square().sum(1)


class Distillation(Trainable):
    """Trains the predictor on pairs: the channels of an image, then those of its perturbed twin.

    Of images it learns g₀, of perturbed ones another random network, g₁, of the same make.
    """

    def __init__(self, error: PredictionError, target: Stages) -> None:
        super().__init__()
        self.error = error
        self.target_of_perturbed = FeatureNetwork(len(error.mean), target, normalised=False).requires_grad_(False)

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean of ‖f(x) − g₀(x)‖² over images and ‖f(x′) − g₁(x′)‖² over their perturbed twins."""
        del generator  # the pairs are made beforehand
        plain, perturbed = self.error.standardised(images.unflatten(1, (2, -1))).unbind(1)
        # One batch through the predictor: its batch statistics are those of both kinds together.
        guessed = self.error.predictor(torch.cat([plain, perturbed]))
        features = torch.cat([self.error.target(plain), self.target_of_perturbed(perturbed)])
        return (guessed - features).square().sum(1).mean()
