"""log p(x|z) of the VAE from what enters its last layer, a few images at a time.

256 logits for each sub-pixel are a megabyte an image, the widest tensor of the VAE by far. Where no weight of the last
layer takes a gradient (all scoring), they are made, turned into probabilities and into the gradient, and dropped
again, while they still lie in the processor's cache.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LEVELS", "Described", "describe_categorical", "log_categorical"]

LEVELS = 256  # values of a sub-pixel
# Joins probabilities before they are multiplied: of a trained model many are subnormal numbers, below 1e-38, which
# processors multiply some hundred times slower than others. It is far below the rounding of what it joins.
SPECK = 1e-30


@dataclass(frozen=True)
class Described:
    """What the categoricals say of each sub-pixel beside log p(x|z): (N, H, W, C) each, without gradients.

    Attributes:
        nll: −log p of its value, nats.
        expected: its expectation, in [0, 1].
        entropy: nats.
    """

    nll: Tensor
    expected: Tensor
    entropy: Tensor


def log_categorical(maps: Tensor, last: nn.ConvTranspose2d, images: Tensor) -> Tensor:
    """Return log p(x|z) in nats, (N,): the sum over sub-pixels, each a softmax over its own 256 logits.

    Args:
        maps: what enters the last layer, (N, n, H/2, W/2).
        last: the layer that makes the logits, (N, C·256, H, W).
        images: uint8, (N, C, H, W).
    """
    if torch.is_grad_enabled() and last.weight.requires_grad:  # training, or the layer itself is scored
        logits = _by_subpixel(_WithSpeck.apply(last(maps)))
        loss = F.cross_entropy(logits.flatten(0, 3), _values(images).flatten(), reduction="none")
        return -loss.view(len(images), -1).sum(1)
    if torch.is_grad_enabled() and maps.requires_grad:
        log_p, _ = _LogCategorical.apply(maps, last.weight, images, False)
        return log_p
    parts = [_log_p(logits.log_softmax(-1), values) for logits, values in _parts(maps, last.weight, images)]
    return torch.cat(parts).flatten(1).sum(1)


def describe_categorical(maps: Tensor, last: nn.ConvTranspose2d, images: Tensor) -> tuple[Tensor, Described]:
    """Return log p(x|z) as `log_categorical` does, and what there is to say of each sub-pixel; arguments as there."""
    if torch.is_grad_enabled() and last.weight.requires_grad:
        with torch.no_grad():
            _, described = describe_categorical(maps, last, images)
        return log_categorical(maps, last, images), described
    if torch.is_grad_enabled() and maps.requires_grad:
        log_p, _, *described = _LogCategorical.apply(maps, last.weight, images, True)
        return log_p, Described(*described)
    parts = [_describe(logits, values, logits.softmax(-1)) for logits, values in _parts(maps, last.weight, images)]
    nll, expected, entropy = (torch.cat(column) for column in zip(*parts, strict=True))
    return -nll.flatten(1).sum(1), Described(nll, expected, entropy)


class _LogCategorical(torch.autograd.Function):
    """log p(x|z), (N,), and its gradient in `maps`, which costs little while the probabilities are at hand.

    An image's log p depends on its own maps only, so that the gradient waits for no more than one factor an image.
    """

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:  # Any: torch's
        maps, weight, images, describe = inputs  # of weights that take no gradient there is one for all
        maps, images = maps.movedim(in_dims[0], 0).flatten(0, 1), images.movedim(in_dims[2], 0).flatten(0, 1)
        outputs = _LogCategorical.apply(maps, weight, images, describe)
        return tuple(output.unflatten(0, (info.batch_size, -1)) for output in outputs), (0,) * len(outputs)

    @staticmethod
    def forward(maps: Tensor, weight: Tensor, images: Tensor, describe: bool) -> tuple[Tensor, ...]:
        columns: list[tuple[Tensor, ...]] = []
        for logits, values in _parts(maps, weight, images):
            p = logits.softmax(-1)
            described = _describe(logits, values, p) if describe else ()
            log_p = -described[0] if describe else _log_chosen(logits, values, p)
            if not describe:
                p.add_(SPECK)
            places = torch.arange(0, p.numel(), LEVELS, device=p.device) + values.flatten()
            error = p.view(-1).index_add_(0, places, p.new_full((), -1.0).expand(len(places))).view_as(p)
            # of −log p: the sign joins the factor, which is one number an image
            gradient = F.conv2d(error.flatten(3).permute(0, 3, 1, 2), weight, stride=2, padding=1)
            columns.append((log_p.flatten(1).sum(1), gradient, *described))
        return tuple(torch.cat(column) for column in zip(*columns, strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # Any: torch's
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)  # else a zero for each number that nobody differentiates
        ctx.save_for_backward(inputs[0], output[1])

    @staticmethod
    def backward(ctx: Any, factor: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # Any: torch's
        maps, gradient = ctx.saved_tensors
        return _OnlyOnce.apply(gradient, factor, maps), None, None, None


class _OnlyOnce(torch.autograd.Function):
    """−factor·gradient; a second derivative, for which autograd would take the gradient as a constant, is refused."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, factor: Tensor, maps: Tensor) -> Tensor:
        del maps  # named so that the gradient is known to depend on them
        return gradient * -factor.view(-1, 1, 1, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # Any: torch's
        pass

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # Any: torch's
        raise NotImplementedError(
            "log p(x|z) with frozen weights can be differentiated once only; let the decoder's weights take gradients."
        )


class _WithSpeck(torch.autograd.Function):
    """The same logits; their gradient, probabilities less ones, with `SPECK`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor) -> Tensor:
        return logits.view_as(logits)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # Any: torch's
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # Any: torch's
        # In place where nobody differentiates it again: it is as wide as the logits, and nothing else holds it.
        return gradient + SPECK if torch.is_grad_enabled() else gradient.add_(SPECK)


def _log_chosen(logits: Tensor, values: Tensor, p: Tensor) -> Tensor:
    """Return log p of each sub-pixel's value, (N, H, W, C), of logits whose softmax is `p`."""
    chosen = p.gather(-1, values.unsqueeze(-1)).squeeze(-1)
    if chosen.min() < torch.finfo(p.dtype).tiny * 2**20:  # too small for a probability to have all its digits
        return _log_p(logits.log_softmax(-1), values)
    return chosen.log()


def _log_p(log_probabilities: Tensor, values: Tensor) -> Tensor:
    return log_probabilities.gather(-1, values.unsqueeze(-1)).squeeze(-1)


def _describe(logits: Tensor, values: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three of `Described`; the logits, whose last use this is, are overwritten."""
    levels = torch.arange(LEVELS, dtype=p.dtype, device=p.device) / (LEVELS - 1)
    nll = -_log_chosen(logits, values, p)
    p.add_(SPECK)
    log_total = logits.gather(-1, values.unsqueeze(-1)).squeeze(-1) + nll  # log Σ exp(logit)
    return nll, p @ levels, log_total - logits.mul_(p).sum(-1)


def _parts(maps: Tensor, weight: Tensor, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (n, H, W, C, 256) and values (n, H, W, C), few images at a time."""
    device = maps.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else maps.dtype
    logits = weight.shape[1] * maps.shape[2] * maps.shape[3] * 4 * dtype.itemsize  # bytes of one image's
    budget = 2**21 * torch.get_num_threads() if device == "cpu" else 2**29  # a cache; half a gigabyte
    size = max(1, budget // logits)
    for part, of_part in zip(maps.split(size), images.split(size), strict=True):
        yield _by_subpixel(F.conv_transpose2d(part, weight, stride=2, padding=1)), _values(of_part)


def _by_subpixel(maps: Tensor) -> Tensor:
    """Return logits (N, C·256, H, W) as (N, H, W, C, 256)."""
    return maps.permute(0, 2, 3, 1).unflatten(-1, (-1, LEVELS))


def _values(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).long()  # (N, H, W, C)
