"""One step of flow, and what it is made of: each layer maps (N, C, H, W) to itself, one to one.

Source: Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions", arXiv:1807.03039, section 3.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ActNorm", "Coupling", "InvertibleConv", "Step", "ZeroConv"]

MIN_DEVIATION = 1e-3  # of a channel, when actnorm is set: that of a constant grey value with its dequantisation noise


class ActNorm(nn.Module):
    """y = scale·(x + shift) for each channel, set by the first batches so that y has mean 0 and variance 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        # Sums of what `observe` has seen; float64, for the variance is a small difference of large ones.
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("total", torch.zeros(1, channels, 1, 1, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(1, channels, 1, 1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        scale = self.log_scale.exp()
        return torch.addcmul(self.shift * scale, x, scale)

    def inverse(self, y: Tensor) -> Tensor:
        """Return x."""
        return y * (-self.log_scale).exp() - self.shift

    def log_det(self) -> Tensor:
        """Return log |det ∂y/∂x| of one pixel, a scalar."""
        return self.log_scale.sum()

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Set scale and shift by all that was observed so far, x included."""
        x = x.double()
        self.count += x[:, 0].numel()
        self.total += x.sum((0, 2, 3), keepdim=True)
        self.squares += x.square().sum((0, 2, 3), keepdim=True)
        mean = self.total / self.count
        variance = self.squares / self.count - mean.square()
        # Clamped: a channel that was constant must not make an image in which it varies a million times as strange.
        deviation = variance.clamp_min(MIN_DEVIATION**2).sqrt()
        self.shift.copy_(-mean)
        self.log_scale.copy_(-deviation.log())


class InvertibleConv(nn.Module):
    """y = W x at each pixel, W dense and a random rotation at first.

    Dense, not the paper's LU: the log-determinant of a 48x48 matrix costs nothing beside the couplings, and the
    gradient that ROSE takes is that of W itself, by both of its ways to log p: through y and through log |det W|.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels)).Q)

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        return F.conv2d(x, self.weight[:, :, None, None])

    def inverse(self, y: Tensor) -> Tensor:
        """Return x."""
        return F.conv2d(y, torch.linalg.inv(self.weight)[:, :, None, None])

    def log_det(self) -> Tensor:
        """Return log |det W|, of one pixel, a scalar."""
        return torch.linalg.slogdet(self.weight).logabsdet


class ZeroConv(nn.Module):
    """A 3x3 convolution that starts at 0, times exp(3·log_scale) for each channel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.log_scale = nn.Parameter(torch.zeros(1, outputs, 1, 1))
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H, W) of (N, inputs, H, W)."""
        return self.conv(x) * (3 * self.log_scale).exp()


class Coupling(nn.Module):
    """The second half of the channels is shifted and scaled by what a network makes of the first half."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.kept = channels - channels // 2
        self.net = nn.Sequential(
            nn.Conv2d(self.kept, hidden, 3, padding=1, bias=False),
            ActNorm(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 1, bias=False),
            ActNorm(hidden),
            nn.ReLU(inplace=True),
            ZeroConv(hidden, 2 * (channels // 2)),
        )
        for layer in self.net:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.05)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y and log |det ∂y/∂x|, (N,)."""
        first, second = x[:, : self.kept], x[:, self.kept :]
        shift, log_scale = self._affine(first)
        return torch.cat([first, (second + shift) * log_scale.exp()], 1), log_scale.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """Return x."""
        first, second = y[:, : self.kept], y[:, self.kept :]
        shift, log_scale = self._affine(first)
        return torch.cat([first, second * (-log_scale).exp() - shift], 1)

    def _affine(self, first: Tensor) -> tuple[Tensor, Tensor]:
        h = self.net(first)
        # "Cross" split: shift and scale are every other channel. The scale is sigmoid(s + 2); by its logarithm, which
        # stays finite where the sigmoid itself is 0 in float32 (s < -90: the authors' infinite NLL on noise).
        return h[:, 0::2], F.logsigmoid(h[:, 1::2] + 2)


class Step(nn.Module):
    """One step of flow: actnorm, invertible 1x1 convolution, affine coupling."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.mix = InvertibleConv(channels)
        self.coupling = Coupling(channels, hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y and log |det ∂y/∂x|, (N,)."""
        pixels = x.shape[2] * x.shape[3]
        y, log_det = self.coupling(self.mix(self.norm(x)))
        return y, log_det + pixels * (self.norm.log_det() + self.mix.log_det())

    def inverse(self, y: Tensor) -> Tensor:
        """Return x."""
        return self.norm.inverse(self.mix.inverse(self.coupling.inverse(y)))
