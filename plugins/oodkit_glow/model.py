"""GLOW for images of any size that the squeezes divide: an exact density of the dequantised image.

Source: Kingma & Dhariwal 2018, arXiv:1807.03039; as Choi et al. 2021 (arXiv:2106.07903) trained it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodkit import GenerativeModel, ImageError
from oodkit_glow.layers import ActNorm, InvertibleConv, Step, ZeroConv
from oodkit_glow.options import GlowOptions

__all__ = ["Encoded", "Glow"]

LEVELS = 256  # values of a sub-pixel
SETTING_BATCHES = 8  # training batches that set the actnorms


@dataclass(frozen=True)
class Encoded:
    """What the flow makes of images.

    Attributes:
        latents: z, in the order in which it leaves the flow: one part, or with `multi_scale` one for each block.
        log_p_z: log p(z) in nats, (N,).
        log_dets: log |det| of each step in nats, (N,), by name.
    """

    latents: list[Tensor]
    log_p_z: Tensor
    log_dets: dict[str, Tensor]


class Glow(GenerativeModel):
    """p(x) of the image plus uniform noise, by the change of variables; z Gaussian with learned mean and deviation.

    log p(x) is that of the discrete image, in nats: E over the noise of log p(x + noise) is a lower bound of it, and
    is estimated by one noise image from `dequantisation_seed`, the same for every image. Beside that it is exact:
    `log_likelihood` has nothing to sample.
    """

    options: GlowOptions

    def __init__(self, image_shape: tuple[int, int, int], options: GlowOptions) -> None:
        super().__init__(image_shape, options)
        channels, height, width = image_shape
        if height % 2**options.blocks or width % 2**options.blocks:
            raise ImageError(
                f"glow halves its images {options.blocks} times; {height}x{width} cannot be. Convert them with "
                f"oodkit.load_images(…, image_shape=({channels}, 32, 32)), or choose fewer blocks."
            )
        self.blocks = nn.ModuleList()
        self.splits = nn.ModuleList()
        for block in range(options.blocks):
            channels *= 4
            self.blocks.append(nn.ModuleList(Step(channels, options.hidden) for _ in range(options.steps)))
            if options.multi_scale and block < options.blocks - 1:
                channels //= 2
                self.splits.append(ZeroConv(channels, 2 * channels))
        self.prior = nn.Parameter(torch.zeros(1, 2 * channels, 1, 1))  # mean and log-deviation of the last z
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        generator = torch.Generator().manual_seed(options.dequantisation_seed)
        self.register_buffer("noise", torch.rand(1, *image_shape, generator=generator), persistent=False)
        # Channels last: faster convolutions of few channels (on a CPU, twice)
        self.to(memory_format=torch.channels_last)

    def log_prob(self, images: Tensor) -> Tensor:
        """Return log p(x) in nats, (N,), with the one fixed noise image."""
        return self._log_density(self.encode(self.dequantise(images, self.noise)))

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return −log p(x + fresh noise), nats per image, a scalar; the first batches set the actnorms."""
        noise = torch.rand(images.shape, generator=generator, dtype=self.dtype).to(images.device)
        x = self.dequantise(images, noise)
        if self.batches < SETTING_BATCHES:
            self._set_actnorms(x)
            self.batches += 1
        return -self._log_density(self.encode(x)).mean()

    def dequantise(self, images: Tensor, noise: Tensor) -> Tensor:
        """Return (x + noise)/256 − 0.5, within ±0.5, of uint8 (N, C, H, W) and noise in [0, 1)."""
        return (images.to(self.dtype) + noise) / LEVELS - 0.5

    def encode(self, x: Tensor) -> Encoded:
        """Return z, log p(z) and the log-determinants of dequantised images (N, C, H, W)."""
        latents, log_dets = [], {}
        log_p_z = x.new_zeros(len(x))
        for i, block in enumerate(self.blocks):
            x = F.pixel_unshuffle(x, 2)  # the squeeze
            for k, step in enumerate(block):
                x, log_dets[f"log_det_{i}_{k}"] = step(x)
            if i < len(self.splits):
                x, z = x.chunk(2, 1)
                log_p_z = log_p_z + _log_normal(z, self.splits[i](x))
                latents.append(z)
        log_p_z = log_p_z + _log_normal(x, self.prior)
        return Encoded([*latents, x], log_p_z, log_dets)

    def decode(self, latents: list[Tensor]) -> Tensor:
        """Return the x, (N, C, H, W), of which `encode` makes these latents."""
        *latents, x = latents
        for i, block in reversed(list(enumerate(self.blocks))):
            if i < len(self.splits):
                x = torch.cat([x, latents[i]], 1)
            for step in reversed(block):
                x = step.inverse(x)
            x = F.pixel_shuffle(x, 2)
        return x

    def curvature_layers(self) -> list[str]:
        """Return the weights of the invertible 1x1 convolutions, as the paper.

        They are named by the parameter, not by the module: W also reaches log p through H·W·log |det W|, which the
        module's output does not show.
        """
        return [f"{name}.weight" for name, module in self.named_modules() if isinstance(module, InvertibleConv)]

    def statistics(self, images: Tensor) -> dict[str, Tensor]:
        """Return log p(x), log p(z) and the log-determinant of each step (block, step), in nats.

        The first is the sum of the others, less C·H·W·log 256.
        """
        return self.log_prob_and_statistics(images)[1]

    def log_prob_and_statistics(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return both from one pass."""
        encoded = self.encode(self.dequantise(images, self.noise))
        log_prob = self._log_density(encoded)
        return log_prob, {"log_prob": log_prob, "log_p_z": encoded.log_p_z, **encoded.log_dets}

    def _log_density(self, encoded: Encoded) -> Tensor:
        # −D·log 256: from the density of x/256 to the probability of a cell of width 1/256.
        return encoded.log_p_z + sum(encoded.log_dets.values()) - self.dimensions * math.log(LEVELS)

    def _set_actnorms(self, x: Tensor) -> None:
        """Let each actnorm observe what reaches it, after those before it are set."""
        handles = [
            layer.register_forward_pre_hook(lambda layer, inputs: layer.observe(inputs[0]))
            for layer in self.modules()
            if isinstance(layer, ActNorm)
        ]
        try:
            with torch.no_grad():
                self.encode(x)
        finally:
            for handle in handles:
                handle.remove()


def _log_normal(z: Tensor, parameters: Tensor) -> Tensor:
    """Return log N(z; mean, deviation²) in nats, (N,); mean and log-deviation are the halves of `parameters`."""
    mean, log_deviation = parameters.chunk(2, 1)
    squares = ((z - mean) * (-log_deviation).exp()).square()
    return -0.5 * (squares + 2 * log_deviation + math.log(2 * math.pi)).flatten(1).sum(1)
