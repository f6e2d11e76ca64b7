"""One encoder per image: a batch passes, at once, through as many copies of an encoder, each with its own weights.

A layer's weights get the images as their first axis, and the layer becomes one batched product of what reaches its
positions, (N, S, I), and its weights, (N, O, I). The rest of a model's `encode` runs as it is written.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodkit import LatentVariableModel

__all__ = ["EncoderPerImage", "encoder_weights"]

_Pair = tuple[int, int]


class EncoderPerImage:
    """A model's `encode` with weights per image; they start as the model's, which stay as they are.

    Layers that have a rule below are stacked. An encoder with others, or one that uses its weights otherwise than by
    calling their layers, is copied image by image instead: as slow as a loop, and right.

    Args:
        model: a model of any kind; the weights are those that its `encode` uses.
        images: uint8, (N, C, H, W); calls are for as many.

    Attributes:
        weights: what an optimizer may change: (N, …) each, or each image's own.
    """

    def __init__(self, model: LatentVariableModel, images: Tensor) -> None:
        encoder = _encoder(model, images[:1])
        self._encode = _stacked(encoder, images) or _Copies(encoder, len(images))
        self.weights = _weights(self._encode)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), (N, Z) each; image n passes through the weights n."""
        mean, log_variance = self._encode(images)
        return mean, log_variance


def encoder_weights(model: LatentVariableModel, images: Tensor) -> list[nn.Parameter]:
    """Return a copy of the weights that `encode` of `images` (uint8, (N, C, H, W)) uses."""
    return _weights(_encoder(model, images))


class _Encode(nn.Module):
    """The encoder of a model, as a module: `forward` is `encode`."""

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.encode(images)


class _Copies(nn.Module):
    """One copy of an encoder per image, called one after the other; they share what is no weight of theirs."""

    def __init__(self, encoder: nn.Module, count: int) -> None:
        super().__init__()
        shared = {id(p): p for p in encoder.parameters() if not p.requires_grad}
        self.copies = nn.ModuleList(copy.deepcopy(encoder, dict(shared)) for _ in range(count))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        parts = [encode(image) for encode, image in zip(self.copies, images.split(1), strict=True)]
        means, log_variances = zip(*parts, strict=True)
        return torch.cat(means), torch.cat(log_variances)


def _encoder(model: LatentVariableModel, images: Tensor) -> _Encode:
    """Return a copy, in which exactly those parameters require a gradient that the encoder's outputs depend on."""
    encoder = _Encode(copy.deepcopy(model))
    encoder.eval()
    parameters = list(encoder.requires_grad_(True).parameters())
    with torch.enable_grad():
        outputs = sum(output.sum() for output in encoder(images))
    for parameter, gradient in zip(
        parameters, torch.autograd.grad(outputs, parameters, allow_unused=True), strict=True
    ):
        parameter.requires_grad_(gradient is not None)
    return encoder


def _weights(encoder: nn.Module) -> list[nn.Parameter]:
    return [p for p in encoder.parameters() if p.requires_grad]


def _stacked(encoder: nn.Module, images: Tensor) -> nn.Module | None:
    """Return the encoder with stacked layers; None where it cannot be had, or where it would be another function."""
    used = [name for name, p in encoder.named_parameters(remove_duplicate=False) if p.requires_grad]
    if len(used) != len(_weights(encoder)):
        return None  # two layers share a weight
    stacked = copy.deepcopy(encoder)
    try:
        _stack_layers(stacked, len(images))
        with torch.enable_grad():
            outputs = stacked(images)
            of_first = torch.autograd.grad(sum(output[0].sum() for output in outputs), _weights(stacked))
    except Exception:  # a third party's `encode` may do anything with weights of shapes that it does not expect
        return None
    if any(isinstance(layer, _Layer) and layer.calls > 1 for layer in stacked.modules()):
        return None  # `of_weight` has room for the gradient of one call
    # Another function would be far off; a GPU's TF32 convolutions are off by 1e-3.
    same = all(torch.allclose(a, b, 0.02, 0.02, equal_nan=True) for a, b in zip(outputs, encoder(images), strict=True))
    # Weights that are still alike hide a mix-up of images; that the first image's q is moved by its own shows it.
    apart = not any(gradient[1:].any() for gradient in of_first)
    return stacked if same and apart else None


def _stack_layers(module: nn.Module, count: int) -> None:
    for name, child in module.named_children():
        if any(p.requires_grad for p in child.parameters(recurse=False)):
            setattr(module, name, _Layer(child, count))
        else:
            _stack_layers(child, count)


class _Product(torch.autograd.Function):
    """x @ wᵀ, of (N, S, I) and (N, O, I): the order of factors, forward and backward, that batched GEMM is quick at.

    Autograd's own backward would return the weights' gradient transposed, to be copied before Adam reads it, and in
    fresh memory; here it lies in `of_w`, (N, O, I), until the next backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, of_w: Tensor) -> Tensor:  # Any: torch's context
        ctx.save_for_backward(x, w)
        ctx.of_w = of_w
        return x @ w.mT

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:  # Any: as above
        x, w = ctx.saved_tensors
        torch.bmm(gradient.mT, x, out=ctx.of_w)
        return gradient @ w if ctx.needs_input_grad[0] else None, ctx.of_w, None


class _Patches(torch.autograd.Function):
    """The patches of x (N, H, W, C) that a convolution's kernel meets, (N, H', W', k, k, C).

    Channels last, so that a row of a patch is copied as one piece; `F.unfold` copies number by number.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: _Pair, stride: _Pair, dilation: _Pair) -> Tensor:  # Any: torch's context
        ctx.shape, ctx.stride, ctx.dilation = x.shape, stride, dilation
        size = [
            (length - d * (k - 1) - 1) // step + 1
            for length, k, step, d in zip(x.shape[1:3], kernel, stride, dilation, strict=True)
        ]
        n, h, w, c = x.stride()
        strides = (n, h * stride[0], w * stride[1], h * dilation[0], w * dilation[1], c)
        return x.as_strided((len(x), *size, *kernel, x.shape[3]), strides).contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # Any: as above
        of_x = gradient.new_zeros(ctx.shape)
        (_, high, wide, *kernel, _), (down, across) = gradient.shape, ctx.stride
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                top, left = i * ctx.dilation[0], j * ctx.dilation[1]
                met = of_x[:, top : top + high * down : down, left : left + wide * across : across]
                met.add_(gradient[:, :, :, i, j])
        return of_x, None, None, None


class _Layer(nn.Module):
    """A layer whose weight and bias have the images as their first axis; a convolution's weight is channels last.

    Attributes:
        of_weight: where a product leaves the weight's gradient; fresh memory each step would cost more.
    """

    def __init__(self, layer: Any, count: int) -> None:  # Any: a kind that has a rule
        super().__init__()
        self.rule = _RULES[type(layer)]
        weight = layer.weight.movedim(1, -1) if isinstance(layer, nn.Conv2d) else layer.weight
        self.weight = _repeat(weight, count)
        self.bias = _repeat(layer.bias, count) if layer.bias is not None else None
        self.of_weight = torch.empty_like(self.weight, requires_grad=False)
        self.layer = layer.requires_grad_(False)  # its settings and buffers
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.rule(self, self.layer, x)

    def product(self, x: Tensor, groups: int = 1) -> Tensor:
        """Return x (N·G, S, I) times each image's weights, (N·G, S, O/G)."""
        shape = (len(x), self.weight.shape[1] // groups, -1)
        return _Product.apply(x, self.weight.view(shape), self.of_weight.view(shape))


def _repeat(parameter: Tensor, count: int) -> nn.Parameter:
    repeated = parameter.detach().expand(count, *parameter.shape)
    return nn.Parameter(repeated.clone(memory_format=torch.contiguous_format))


def _linear(own: _Layer, layer: nn.Linear, x: Tensor) -> Tensor:
    y = own.product(x.reshape(len(own.weight), -1, layer.in_features))  # (N, S, O)
    y = y if own.bias is None else y + own.bias.unsqueeze(1)
    return y.view(*x.shape[:-1], layer.out_features)


def _conv(own: _Layer, layer: nn.Conv2d, x: Tensor) -> Tensor:
    # the padding that the layer itself uses, whether given as numbers, "same", or with another mode than zeros
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode).permute(0, 2, 3, 1)
    patches = _Patches.apply(x, layer.kernel_size, layer.stride, layer.dilation)
    (n, high, wide), groups = patches.shape[:3], layer.groups
    if groups == 1:
        y = own.product(patches.view(n, high * wide, -1))
    else:  # a group is a product of its own
        patches = patches.unflatten(-1, (groups, -1)).movedim(5, 1)  # (N, G, H', W', k, k, C/G)
        y = own.product(patches.reshape(n * groups, high * wide, -1), groups)
        y = y.unflatten(0, (n, groups)).transpose(1, 2).flatten(2)
    y = y if own.bias is None else y + own.bias.unsqueeze(1)
    return y.view(n, high, wide, -1).permute(0, 3, 1, 2)


def _batch_norm(own: _Layer, layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    scale = own.weight * (layer.running_var + layer.eps).rsqrt()  # evaluation mode: an affine map
    return _affine(x, scale, own.bias - layer.running_mean * scale)


def _group_norm(own: _Layer, layer: nn.GroupNorm, x: Tensor) -> Tensor:
    return _affine(F.group_norm(x, layer.num_groups, eps=layer.eps), own.weight, own.bias)


def _layer_norm(own: _Layer, layer: nn.LayerNorm, x: Tensor) -> Tensor:
    y = F.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    y = y.reshape(len(own.weight), -1, *layer.normalized_shape) * own.weight.unsqueeze(1)
    return (y if own.bias is None else y + own.bias.unsqueeze(1)).view_as(x)


def _affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return x·scale + shift of x (N, C, …), with scale and shift (N, C)."""
    shape = (*scale.shape, *(1,) * (x.ndim - 2))
    return torch.addcmul(shift.view(shape), x, scale.view(shape))


_RULES: dict[type[nn.Module], Callable[[_Layer, Any, Tensor], Tensor]] = {  # Any: the kind of its key
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
}
