"""Per-image gradients of log p(x), one layer at a time, kept factored; one backward pass for a whole batch.

A layer is a linear map of what reaches each position, so the gradient of its weight for one image is a sum over
positions of an outer product. Every layer is brought to that one form, (N, S, I) and (N, S, O), and mathematics is
done once:

| layer | positions S | inputs I | outputs O |
| --- | --- | --- | --- |
| Linear | all axes between the first and the last | in_features (+1) | out_features |
| Conv2d | output pixels | patch, in_channels·k·k (+1) | out_channels |
| ConvTranspose2d | output pixels | patch of the zero-stuffed input (+1) | out_channels |
| any other parameter | its rows or columns | columns | rows |

(+1): the bias is one more input that is 1. With G groups, each group is S further positions that reach its own
outputs only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

from oodkit.errors import PluginError
from oodkit.layer_gradient import LayerGradient, Patches, with_ones
from oodkit.model import GenerativeModel, frozen

__all__ = ["BackwardPass", "backward_pass", "layer_gradients"]


@dataclass(frozen=True)
class BackwardPass:
    """What one forward and one backward pass over a batch of N images tell; others may hold the same tensors.

    Attributes:
        gradients: ∇ log p(x) of each image, by layer.
        log_prob: `model.log_prob`, (N,), nats.
        statistics: `model.statistics`, (N,) each; empty where they were not asked for.
    """

    gradients: dict[str, LayerGradient]
    log_prob: Tensor
    statistics: dict[str, Tensor]


def layer_gradients(
    model: GenerativeModel, images: Tensor, layers: Sequence[str] | None = None
) -> dict[str, LayerGradient]:
    """Return ∇ log p(x) of each image for each layer: the gradients of `backward_pass`."""
    return backward_pass(model, images, layers).gradients


def backward_pass(
    model: GenerativeModel, images: Tensor, layers: Sequence[str] | None = None, *, statistics: bool = False
) -> BackwardPass:
    """Return ∇ log p(x) of each image for each layer, and what the forward pass tells on the way.

    The model is in evaluation mode meanwhile (batch statistics would couple the images), and no gradient of any
    weight is computed: those of the layers' outputs suffice. Both are undone afterwards, on errors too.

    Args:
        model: its `log_prob` is differentiated.
        images: uint8, (N, C, H, W), on the model's device.
        layers: names of modules or of parameters; by default `model.curvature_layers()`.
        statistics: take the model's statistics too, from the same pass where the model can.

    Raises:
        PluginError: a name that the model does not have; a layer whose class changes what Linear or a convolution does;
            a layer that log p does not pass through, or whose first axis is not the images, or whose input is changed
            in place afterwards, or whose weight enters log p outside of it too (name the parameter instead).
    """
    names = list(layers) if layers is not None else model.curvature_layers()
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    if unknown := [n for n in names if n not in parameters and not isinstance(modules.get(n), tuple(_FACTORS))]:
        raise PluginError(f"the model has no Linear, Conv2d, ConvTranspose2d or parameter called {', '.join(unknown)}.")
    hooked = {n: modules[n] for n in names if n not in parameters}
    # A subclass that masks or scales its weight has another gradient than its inputs and outputs tell.
    if own := [n for n, m in hooked.items() if not any(type(m).forward is kind.forward for kind in _FACTORS)]:
        raise PluginError(
            f"layer {own[0]!r} is a {type(modules[own[0]]).__name__} with a forward of its own; name its parameters "
            f"({own[0]}.weight, …), whose whole gradient is taken."
        )
    owner: dict[int, str] = {}
    for name, layer in hooked.items():
        for weight in layer.parameters():
            if owner.setdefault(id(weight), name) != name:
                raise PluginError(
                    f"layers {owner[id(weight)]!r} and {name!r} share a weight; name the parameter ({name}.weight), "
                    "whose whole gradient is taken."
                )
    forward = model.log_prob_and_statistics if statistics else lambda images: (model.log_prob(images), {})

    bare = {n: parameters[n] for n in names if n in parameters}

    def run() -> BackwardPass:
        with torch.inference_mode(False), frozen(model):
            if bare and not hooked:
                gradients, log_prob, described = _by_vmap(model, images, bare, statistics)
            else:
                gradients, log_prob, described = _by_hooks(forward, images, hooked)
                gradients |= _by_vmap(model, images, bare, statistics=False)[0] if bare else {}
        described = {name: values.detach() for name, values in described.items()}
        return BackwardPass({n: gradients[n] for n in names}, log_prob.detach(), described)

    if model.recall is None:
        return run()
    answer: BackwardPass = model.recall(model, ("backward_pass", tuple(names), statistics), images, run)
    return answer


Forward = Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]


def _by_hooks(
    forward: Forward, images: Tensor, layers: dict[str, nn.Module]
) -> tuple[dict[str, LayerGradient], Tensor, dict[str, Tensor]]:
    taps: list[tuple[str, Tensor, Tensor]] = []  # (layer, its input, its output), in the order of the forward pass
    versions: list[int] = []  # of the inputs: how often they were changed in place

    def tap(name: str, layer_input: Tensor, output: Tensor) -> Tensor:
        if layer_input.shape[0] != len(images):
            raise PluginError(
                f"layer {name!r} sees {layer_input.shape[0]} rows for {len(images)} images: its first axis is not the "
                f"images, so gradients per image cannot be told apart; name its parameters ({name}.weight, …), whose "
                "whole gradient is taken."
            )
        layers[name].requires_grad_(True)
        if not torch.is_grad_enabled():  # the model looks at itself on the way; its gradient is not asked for
            return output
        if not output.requires_grad:  # no tracked layer came before it: the graph starts here
            output = output.detach().requires_grad_()
        taps.append((name, layer_input.detach(), output))
        versions.append(layer_input._version)
        return output.clone()  # what follows may work in place (ReLU), and must not change the tap

    # A layer's weights are tracked except while the layer itself runs: a gradient that reaches them comes another way.
    handles = [layer.register_forward_pre_hook(lambda layer, _: _untrack(layer)) for layer in layers.values()]
    handles += [
        layer.register_forward_hook(
            lambda _, inputs, named, output, name=name: tap(name, inputs[0] if inputs else named["input"], output),
            with_kwargs=True,
        )
        for name, layer in layers.items()
    ]
    weights = [(name, p) for name, layer in layers.items() for p in layer.parameters()]
    try:
        for layer in layers.values():
            layer.requires_grad_(True)
        with torch.set_grad_enabled(bool(layers)):
            log_prob, statistics = forward(images)
            total = log_prob.sum()
        targets = [output for _, _, output in taps] + [p for _, p in weights]
        gradients = torch.autograd.grad(total, targets, allow_unused=True) if total.requires_grad else ()
    finally:
        for handle in handles:
            handle.remove()
        for layer in layers.values():
            layer.requires_grad_(False)
    if changed := [tap[0] for tap, version in zip(taps, versions, strict=True) if tap[1]._version != version]:
        raise PluginError(
            f"what layer {changed[0]!r} was given is changed in place after it; let the model's code make a new tensor."
        )
    factors: dict[str, list[LayerGradient]] = {name: [] for name in layers}
    for (name, layer_input, _), delta in zip(taps, gradients, strict=False):
        if delta is not None:
            gradient = _factor(layers[name], layer_input, delta)
            factors[name].append(gradient.sharing_with(other for parts in factors.values() for other in parts))
    for (name, _), other in zip(weights, gradients[len(taps) :], strict=False):
        if other is not None:
            raise PluginError(
                f"a weight of layer {name!r} enters log p(x) outside of that layer too, as tied weights do; name the "
                f"parameter ({name}.weight), whose whole gradient is taken."
            )
    if missed := [name for name, parts in factors.items() if not parts]:
        raise PluginError(f"log p(x) does not pass through the layers {', '.join(missed)}.")
    return {name: _joined(parts) for name, parts in factors.items()}, log_prob, statistics


def _untrack(layer: nn.Module) -> None:
    layer.requires_grad_(False)


def _joined(parts: list[LayerGradient]) -> LayerGradient:
    """Return the gradient of a layer that is used more than once: its uses are further positions."""
    if len(parts) == 1:
        return parts[0]
    return LayerGradient(torch.cat([p.inputs for p in parts], 1), torch.cat([p.outputs for p in parts], 1))


class _LogProbAndStatistics(nn.Module):
    """What `functional_call` can call: a model's log p, with its statistics where they are asked for."""

    def __init__(self, model: GenerativeModel, statistics: bool) -> None:
        super().__init__()
        self.model = model
        self.statistics = statistics

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.model.log_prob_and_statistics(images) if self.statistics else (self.model.log_prob(images), {})


def _by_vmap(
    model: GenerativeModel, images: Tensor, parameters: dict[str, nn.Parameter], statistics: bool
) -> tuple[dict[str, LayerGradient], Tensor, dict[str, Tensor]]:
    whole = _LogProbAndStatistics(model, statistics)

    def log_prob(values: dict[str, Tensor], image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        log_p, described = functional_call(whole, values, (image.unsqueeze(0),))
        return log_p.squeeze(0), {name: value.squeeze(0) for name, value in described.items()}

    values = {f"model.{name}": p.detach() for name, p in parameters.items()}
    # "same": noise is one tensor for all images, drawn from a generator that log_prob seeds
    differentiated = vmap(grad_and_value(log_prob, has_aux=True), in_dims=(None, 0), randomness="same")
    dense, (log_p, described) = differentiated(values, images)
    gradients = {
        name: LayerGradient.from_dense(g.reshape(len(g), g.shape[1] if g.ndim > 2 else 1, -1))
        for name, g in zip(parameters, dense.values(), strict=True)
    }
    return gradients, log_p, described


def _factor(layer: nn.Module, x: Tensor, delta: Tensor) -> LayerGradient:
    factor = next(factor for kind, factor in _FACTORS.items() if isinstance(layer, kind))
    return factor(layer, x, delta)


def _linear(layer: nn.Linear, x: Tensor, delta: Tensor) -> LayerGradient:
    n = len(x)
    inputs = with_ones(x.reshape(n, -1, x.shape[-1]), layer.bias is not None)
    return LayerGradient(inputs, delta.reshape(n, -1, delta.shape[-1]))


def _conv(layer: nn.Conv2d, x: Tensor, delta: Tensor) -> LayerGradient:
    # the padding that the layer itself uses, whether given as numbers, "same", or with another mode than zeros
    left, right, above, below = layer._reversed_padding_repeated_twice
    if layer.padding_mode == "zeros" and left == right and above == below:
        padding = (above, left)
    else:
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x, padding = F.pad(x, (left, right, above, below), mode=mode), (0, 0)
    patches = Patches(x, layer.kernel_size, layer.stride, layer.dilation, padding, layer.bias is not None)
    return _grouped(patches, delta.flatten(2), layer.groups)


def _conv_transpose(layer: nn.ConvTranspose2d, x: Tensor, delta: Tensor) -> LayerGradient:
    """Return it as a plain convolution of the input with zeros stuffed between its pixels; the kernel is mirrored."""
    stride, dilation, kernel = layer.stride, layer.dilation, layer.kernel_size
    n, c, h, w = x.shape
    stuffed = x.new_zeros(n, c, (h - 1) * stride[0] + 1, (w - 1) * stride[1] + 1)
    stuffed[:, :, :: stride[0], :: stride[1]] = x
    before = [dilation[i] * (kernel[i] - 1) - int(layer.padding[i]) for i in (0, 1)]
    # What follows is told from the output's size, which `output_padding` and `output_size` decide.
    after = [delta.shape[2 + i] + dilation[i] * (kernel[i] - 1) - before[i] - stuffed.shape[2 + i] for i in (0, 1)]
    stuffed = F.pad(stuffed, (before[1], after[1], before[0], after[0]))
    patches = Patches(stuffed, kernel, dilation=dilation, ones=layer.bias is not None)
    return _grouped(patches, delta.flatten(2), layer.groups)


def _grouped(patches: Patches, delta: Tensor, groups: int) -> LayerGradient:
    """Return the layer gradient of patches and output gradients (N, O, S)."""
    n, o, s = delta.shape
    if groups == 1:
        return LayerGradient(patches, delta.transpose(1, 2))
    gathered = replace(patches, ones=False).gathered()  # (N, S, G·I)
    inputs = gathered.view(n, s, groups, -1).transpose(1, 2).reshape(n, groups * s, -1)
    outputs = delta.new_zeros(n, groups, s, o)
    width = o // groups
    for g in range(groups):  # each group's positions reach its own outputs only
        own = slice(g * width, (g + 1) * width)
        outputs[:, g, :, own] = delta[:, own].transpose(1, 2)
    return LayerGradient(with_ones(inputs, patches.ones), outputs.reshape(n, groups * s, o))


_FACTORS: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], LayerGradient]] = {  # Any: the kind of its key
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _conv_transpose,
}
