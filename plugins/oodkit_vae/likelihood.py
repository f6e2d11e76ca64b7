"""log p(x|z) of the VAE from what enters its last layer, a few images at a time.

256 logits for each sub-pixel are a megabyte an image, the widest tensor of the VAE by far. Where no weight of the last
layer takes a gradient (all scoring), they are made, turned into probabilities and into the gradient, and dropped
again, while they still lie in the processor's cache.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LEVELS", "describe_categorical", "log_categorical"]

LEVELS = 256  # values of a sub-pixel


def log_categorical(maps: Tensor, last: nn.ConvTranspose2d, images: Tensor) -> Tensor:
    """Return log p(x|z) in nats, (N,): the sum over sub-pixels, each a softmax over its own 256 logits.

    Args:
        maps: what enters the last layer, (N, n, H/2, W/2).
        last: the layer that makes the logits, (N, C·256, H, W).
        images: uint8, (N, C, H, W).
    """
    if torch.is_grad_enabled() and last.weight.requires_grad:  # training, or the layer itself is scored
        logits = _by_subpixel(last(maps))
        loss = F.cross_entropy(logits.flatten(0, 3), _values(images).flatten(), reduction="none")
        return -loss.view(len(images), -1).sum(1)
    if torch.is_grad_enabled() and maps.requires_grad:
        log_p, _ = _LogCategorical.apply(maps, last.weight, images)
        return log_p
    size = _images_at_once(maps, last.weight)
    pairs = zip(maps.split(size), images.split(size), strict=True)
    return torch.cat([_log_prob(_by_subpixel(last(part)), _values(of_part))[0] for part, of_part in pairs])


def describe_categorical(maps: Tensor, last: nn.ConvTranspose2d, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return −log p of each sub-pixel, its expectation in [0, 1], and its entropy, (N, H, W, C) each.

    Args:
        maps: what enters the last layer, (N, n, H/2, W/2).
        last: the layer that makes the logits, (N, C·256, H, W).
        images: uint8, (N, C, H, W).
    """
    size = _images_at_once(maps, last.weight)
    levels = torch.arange(LEVELS, dtype=maps.dtype, device=maps.device) / (LEVELS - 1)
    parts = []
    for part, of_part in zip(maps.split(size), images.split(size), strict=True):
        logits = _by_subpixel(last(part))
        p = logits.softmax(-1)
        log_total = logits.amax(-1) - p.amax(-1).log()
        nll = log_total - logits.gather(-1, _values(of_part).unsqueeze(-1)).squeeze(-1)
        parts.append((nll, p @ levels, log_total - torch.einsum("...k,...k->...", p, logits)))
    nlls, expected, entropies = (torch.cat(column) for column in zip(*parts, strict=True))
    return nlls, expected, entropies


class _LogCategorical(torch.autograd.Function):
    """log p(x|z), (N,), and its gradient in `maps`, which costs little while the probabilities are at hand.

    An image's log p depends on its own maps only, so that the gradient waits for no more than one factor an image.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(maps: Tensor, weight: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        size = _images_at_once(maps, weight)
        log_probs, gradients = [], []
        for part, of_part in zip(maps.split(size), images.split(size), strict=True):
            values = _values(of_part)
            logits = _by_subpixel(F.conv_transpose2d(part, weight, stride=2, padding=1))
            log_p, error = _log_prob(logits, values)
            error.scatter_add_(-1, values.unsqueeze(-1), error.new_full((), -1.0).expand(*values.shape, 1))
            gradients.append(-F.conv2d(error.flatten(3).permute(0, 3, 1, 2), weight, stride=2, padding=1))
            log_probs.append(log_p)
        return torch.cat(log_probs), torch.cat(gradients)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:  # Any: torch's
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])

    @staticmethod
    def backward(ctx: Any, factor: Tensor, _: Tensor) -> tuple[Tensor, None, None]:  # Any: torch's
        maps, gradient = ctx.saved_tensors
        return factor.view(-1, 1, 1, 1) * _OnlyOnce.apply(gradient, maps), None, None


class _OnlyOnce(torch.autograd.Function):
    """The gradient as it is; a second derivative, for which autograd would take it as a constant, is refused."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, maps: Tensor) -> Tensor:
        del maps  # named so that the gradient is known to depend on them
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # Any: torch's
        pass

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, Tensor]:  # Any: torch's
        raise NotImplementedError(
            "log p(x|z) with frozen weights can be differentiated once only; let the decoder's weights take gradients."
        )


def _log_prob(logits: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p of each image, (N,), and the probabilities themselves, (N, H, W, C, 256)."""
    p = logits.softmax(-1)
    top = logits.amax(-1)
    # log Σ exp(l) = top − log p(top), and p(top) is 1/256 at least: one exponential for each logit, and no more
    chosen = logits.gather(-1, values.unsqueeze(-1)).squeeze(-1)
    log_p = chosen - top + p.amax(-1).log()
    return log_p.flatten(1).sum(1), p


def _by_subpixel(maps: Tensor) -> Tensor:
    """Return logits (N, C·256, H, W) as (N, H, W, C, 256)."""
    return maps.permute(0, 2, 3, 1).unflatten(-1, (-1, LEVELS))


def _values(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).long()  # (N, H, W, C)


def _images_at_once(maps: Tensor, weight: Tensor) -> int:
    logits = weight.shape[1] * maps.shape[2] * maps.shape[3] * 4  # of one image
    budget = 2**19 * torch.get_num_threads() if maps.device.type == "cpu" else 2**27  # a cache; half a gigabyte
    return max(1, budget // logits)
