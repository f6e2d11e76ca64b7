"""The convolutional VAE of Choi et al. 2021 (arXiv:2106.07903), for 32x32 images, grey or colour."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodkit import ImageError, LatentVariableModel, kl_divergence
from oodkit_vae.likelihood import LEVELS, describe_categorical, log_categorical
from oodkit_vae.options import VaeOptions

__all__ = ["Vae"]

SIDE = 32
DECODED = 32  # images decoded at a time: the logits of each take a megabyte for each channel


class Vae(LatentVariableModel):
    """q(z|x) Gaussian, p(x|z) a 256-way categorical for each sub-pixel, independent given z."""

    options: VaeOptions

    def __init__(self, image_shape: tuple[int, int, int], options: VaeOptions) -> None:
        super().__init__(image_shape, options)
        channels, height, width = image_shape
        if (height, width) != (SIDE, SIDE):
            raise ImageError(
                f"vae takes {SIDE}x{SIDE} images, not {height}x{width}; convert them with "
                f"oodkit.load_images(…, image_shape=({channels}, {SIDE}, {SIDE}))."
            )
        n = options.width or (32 if channels == 1 else 64)
        nz = options.latent or (100 if channels == 1 else 200)
        self.trunk = nn.Sequential(*_down(channels, n), *_down(n, 2 * n), *_down(2 * n, 4 * n))  # 32 -> 16 -> 8 -> 4
        self.mean = nn.Conv2d(4 * n, nz, 4)
        self.log_variance = nn.Conv2d(4 * n, nz, 4)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(nz, 4 * n, 4, bias=False),  # 1 -> 4
            nn.BatchNorm2d(4 * n),
            nn.ReLU(inplace=True),
            *_up(4 * n, 2 * n),
            *_up(2 * n, n),  # 4 -> 8 -> 16
            nn.ConvTranspose2d(n, LEVELS * channels, 4, stride=2, padding=1, bias=False),  # 16 -> 32
        )
        self.apply(_initialise)
        # Channels last: the 256 logits of a sub-pixel lie side by side, which the categorical likelihood runs over.
        self.to(memory_format=torch.channels_last)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), (N, Z) each."""
        x = (images.to(self.dtype) / 255).contiguous(memory_format=torch.channels_last)
        h = self.trunk(x)
        return self.mean(h).flatten(1), self.log_variance(h).flatten(1)

    def logits(self, z: Tensor) -> Tensor:
        """Return the unnormalised log-probabilities of each sub-pixel's values, (N, H, W, C, 256), of z (N, Z)."""
        maps = self.decoder(z[:, :, None, None])  # (N, C·256, H, W)
        return maps.permute(0, 2, 3, 1).unflatten(-1, (-1, LEVELS))

    def log_prob_given(self, images: Tensor, z: Tensor) -> Tensor:
        """Return log p(x|z) in nats, (N,); differentiable in z once, and twice where the weights take gradients."""
        return log_categorical(self.decoder[:-1](z[:, :, None, None]), self.decoder[-1], images)

    def decode(self, z: Tensor) -> Tensor:
        """Return the expectation of p(x|z) as images, uint8 (N, C, H, W), of z (N, Z): each sub-pixel rounded."""
        # not the likeliest values: after a few epochs these are black
        levels = torch.arange(LEVELS, dtype=z.dtype, device=z.device)
        values = [self.logits(few).softmax(-1) @ levels for few in z.split(DECODED)]  # (n, H, W, C)
        return torch.cat(values).round().to(torch.uint8).permute(0, 3, 1, 2).contiguous()

    def curvature_layers(self) -> list[str]:
        """Return the five convolutions of the encoder, as the paper."""
        return ["trunk.0", "trunk.3", "trunk.6", "mean", "log_variance"]

    def statistics(self, images: Tensor) -> dict[str, Tensor]:
        """Return ten numbers per image: of the reconstruction at the mean of q(z|x), and of q(z|x) itself.

        `reconstruction_nll`, `nll_deviation` (over sub-pixels), `kl` and `entropy` (of the decoder's categoricals)
        are in nats. `residual` is ‖x − E[x̂]‖ with x in [0, 1]; its square is the sum of those of `residual_fine`
        (what differs within 2x2 pixels), `residual_middle` (within 4x4, beyond that) and `residual_coarse` (the rest).
        """
        return self.log_prob_and_statistics(images)[1]

    def log_prob_and_statistics(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return both from one pass."""
        mean, log_variance = self.encode(images)
        maps = self.decoder[:-1](mean[:, :, None, None])
        log_p, described = describe_categorical(maps, self.decoder[-1], images)
        kl = kl_divergence(mean, log_variance)
        residual = images.to(mean.dtype) / 255 - described.expected.permute(0, 3, 1, 2)  # (N, C, H, W)
        blocks = F.avg_pool2d(residual, 2)  # (N, C, 16, 16)
        coarse = F.avg_pool2d(blocks, 2)
        return log_p - kl, {
            "reconstruction_nll": -log_p,
            "nll_deviation": described.nll.flatten(1).std(1),
            "kl": kl,
            "entropy": described.entropy.flatten(1).sum(1),
            "residual": residual.flatten(1).norm(dim=1),
            "residual_fine": (residual - F.interpolate(blocks, scale_factor=2)).flatten(1).norm(dim=1),
            "residual_middle": 2 * (blocks - F.interpolate(coarse, scale_factor=2)).flatten(1).norm(dim=1),
            "residual_coarse": 4 * coarse.flatten(1).norm(dim=1),
            "mean_norm": mean.norm(dim=1),
            "deviation_norm": (0.5 * log_variance).exp().norm(dim=1),
        }


def _down(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def _up(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
    if isinstance(layer, nn.Conv2d) and layer.bias is not None:
        nn.init.zeros_(layer.bias)
