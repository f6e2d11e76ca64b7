"""`adapt`: your own `torch.nn.Module` as a model of oodkit, without a plugin."""

import copy
import hashlib
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from oodkit.artifact import read_artifact
from oodkit.device import resolve_device
from oodkit.errors import ArtifactError, OptionError, PluginError
from oodkit.images import Shape
from oodkit.imports import own_files
from oodkit.model import GenerativeModel, LatentVariableModel, Layers
from oodkit.options import ModelOptions

__all__ = ["AdaptedLatentModel", "AdaptedModel", "adapt", "load_own_model", "own_model_hash"]

Pixels = Literal["unit", "symmetric", "bytes"]
Function = str | Callable[..., Any]  # a method's name, or a function of the module, the images and perhaps z


class AdaptedModel(GenerativeModel):
    """A module of the user's, with the functions that make a model of it. Made by `adapt`.

    Attributes:
        module: the user's module.
    """

    _inside: ClassVar[str] = "module."

    def __init__(
        self,
        image_shape: Shape,
        options: ModelOptions,
        module: nn.Module,
        functions: dict[str, Function],
        pixels: Pixels,
        layers: list[str],
        fresh: Callable[[], nn.Module] | None,
    ) -> None:
        super().__init__(image_shape, options)
        self.module = module
        self._functions = functions
        self._pixels = pixels
        self._layers = layers
        self._make_fresh = fresh

    def log_prob(self, images: Tensor) -> Tensor:
        """Return what the user's `log_prob` gives, (N,), of uint8 (N, C, H, W) scaled as `adapt` was told."""
        found: Tensor = self._call("log_prob", images)
        return found

    def _call(self, what: str, images: Tensor, *more: Tensor) -> Any:  # Any: what the user's function returns
        x: Tensor = images if self._pixels == "bytes" else images.to(self.dtype) / 255
        if self._pixels == "symmetric":
            x = 2 * x - 1
        return self._function(what)(x, *more)

    def _function(self, what: str) -> Callable[..., Any]:  # Any: as above
        function = self._functions[what]
        return getattr(self.module, function) if isinstance(function, str) else partial(function, self.module)

    def curvature_layers(self) -> list[str]:
        """Return the layers that `adapt` was told."""
        return list(self._layers)

    def fresh(self, seed: int = 0, **changes: Any) -> "AdaptedModel":  # Any: an option's value
        """Return an untrained twin: of `adapt`'s `fresh`, or with every layer's own `reset_parameters`.

        Raises:
            PluginError: a module holds weights and cannot draw them anew.
        """
        options = type(self.options).parse(self.name or "the model", {**self.options.model_dump(), **changes})
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # the CPU's alone, and so the twin is drawn on the CPU
            module = self._make_fresh() if self._make_fresh is not None else _reset(copy.deepcopy(self.module).cpu())
        twin = type(self)(
            self.image_shape, options, module, self._functions, self._pixels, self._layers, self._make_fresh
        )
        twin.name = self.name
        return twin.to(device=self.device, dtype=self.dtype)


class AdaptedLatentModel(LatentVariableModel, AdaptedModel):
    """The same for a model with latent variables: log p(x), its estimate and the loss are made of the user's two."""

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), (N, Z) each."""
        mean, log_variance = self._call("encode", images)
        return mean, log_variance

    def log_prob_given(self, images: Tensor, z: Tensor) -> Tensor:
        """Return log p(x|z) in nats, (N,), of images (N, C, H, W) at z (N, Z)."""
        found: Tensor = self._call("log_prob_given", images, z)
        return found

    def decode(self, z: Tensor) -> Tensor:
        """Return what the user's `decode` gives as images, uint8 (N, C, H, W), of z (N, Z).

        Raises:
            PluginError: `adapt` was given none, or it gives no images.
        """
        if "decode" not in self._functions:
            raise PluginError(f"{type(self.module).__name__} was adapted without decode; give adapt(…, decode=…).")
        x = self._function("decode")(z)
        if not isinstance(x, Tensor) or x.shape != (len(z), *self.image_shape):
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise PluginError(f"decode gave {got} for z of {len(z)}; it must return {(len(z), *self.image_shape)}.")
        if self._pixels == "symmetric":
            x = (x + 1) / 2
        bytes_ = x if self._pixels == "bytes" else 255 * x
        return bytes_.round().clamp(0, 255).to(torch.uint8)


def adapt(
    module: nn.Module,
    *,
    image_shape: Shape,
    log_prob: Function | None = None,
    encode: Function | None = None,
    log_prob_given: Function | None = None,
    decode: Function | None = None,
    layers: Layers | None = None,
    pixels: Pixels = "unit",
    fresh: Callable[[], nn.Module] | None = None,
) -> AdaptedModel:
    """Return a model of oodkit around any module, of `log_prob` or, with latent variables, of the two others.

    With `log_prob`, every detector can use it that needs no latent variables; with the two others, all.

    Two random images are tried at once, so that what cannot work is said here and not in a detector.

    Args:
        module: trained or not; put into evaluation mode. It is used, not copied.
        log_prob: the name of a method of `module`, or a function of (module, images), that returns one number per
            image, (N,), higher = more likely: log p(x) in nats, a bound, or any objective such as a denoising or
            reconstruction loss with a minus. It must be differentiable and deterministic: draw noise from a seeded
            `torch.Generator`, one tensor for all images.
        encode: a method's name or a function of (module, images): mean and log-variance of q(z|x), (N, Z) each.
        log_prob_given: a method's name or a function of (module, images, z): log p(x|z) in nats, (N,). The prior is
            N(0, I).
        decode: a method's name or a function of (module, z), beside those two: the expectation of p(x|z), (N, C, H, W),
            in the range of `pixels`. With it, a report shows reconstructions.
        image_shape: (C, H, W) of the images that it takes.
        layers: what ROSE looks at, unless its own option `layers` says otherwise: names, patterns ("decoder.*", where *
            crosses dots) or types (nn.Linear), one or several, as `matching_layers` takes them. By default every
            Linear, Conv2d and ConvTranspose2d, or every parameter where there are none.
        pixels: what the functions get: floats in [0, 1] ("unit"), in [-1, 1] ("symmetric"), or the uint8 ("bytes").
        fresh: makes an untrained module, for detectors that train a twin; by default each layer's own
            `reset_parameters` is called on a copy.

    Raises:
        OptionError: `pixels`, `image_shape` or `layers` makes no sense, a text names no method, or neither `log_prob`
            nor the two others are given.
        PluginError: `log_prob` fails, does not give (N,), is not finite, changes from call to call, or lets an image's
            neighbours change its number; the first axis of what enters one of `layers` is not the images.
    """
    if pixels not in ("unit", "symmetric", "bytes"):
        raise OptionError(f'pixels is {pixels!r}; choose "unit" ([0, 1]), "symmetric" ([-1, 1]) or "bytes" (0..255).')
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise OptionError(f"image_shape is {image_shape}; it must be (channels, height, width), each at least 1.")
    if not isinstance(module, nn.Module):
        raise OptionError(f"adapt takes a torch.nn.Module, not {type(module).__name__}; wrap what you have in one.")
    given = {"log_prob": log_prob, "encode": encode, "log_prob_given": log_prob_given, "decode": decode}
    functions = {name: function for name, function in given.items() if function is not None}
    if set(functions) not in ({"log_prob"}, {"encode", "log_prob_given"}, {"encode", "log_prob_given", "decode"}):
        raise OptionError(
            "give adapt either log_prob, or encode and log_prob_given (and perhaps decode) for a model with latent "
            "variables."
        )
    for name, function in functions.items():
        if isinstance(function, str) and not callable(getattr(module, function, None)):
            raise OptionError(
                f"{type(module).__name__} has no method {function!r}; give a function of (module, images) as {name}."
            )
    if next(module.parameters(), None) is None:
        raise OptionError(f"{type(module).__name__} has no parameters: there is nothing to look at.")
    c, h, w = image_shape
    kind = AdaptedModel if log_prob is not None else AdaptedLatentModel
    model = kind((c, h, w), ModelOptions(), module, functions, pixels, [], fresh)
    model._layers = model.matching_layers("*" if layers is None else layers)
    _probe(model.eval())
    return model


def _probe(model: AdaptedModel) -> None:
    """Try two images.

    Raises:
        PluginError: says what the function does wrong.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, *model.image_shape), generator=generator, dtype=torch.uint8).to(model.device)
    try:
        with torch.no_grad():
            together, again, alone = model.log_prob(images), model.log_prob(images), model.log_prob(images[:1])
    except Exception as error:  # the user's function may raise anything
        raise PluginError(
            f"log_prob failed on two images of shape {'x'.join(map(str, model.image_shape))}: "
            f"{type(error).__name__}: {error}."
        ) from error
    if not isinstance(together, Tensor) or together.shape != (2,):
        got = tuple(together.shape) if isinstance(together, Tensor) else type(together).__name__
        raise PluginError(
            f"log_prob gave {got} for two images; it must return (2,), a number each: sum over pixels, not over images."
        )
    if not together.is_floating_point():
        raise PluginError(f"log_prob gave {together.dtype}; it must return floating-point numbers, in nats.")
    if not together.isfinite().all():
        raise PluginError(f"log_prob is not finite on random images: {together.tolist()}.")
    if not torch.equal(together, again):
        raise PluginError(
            "log_prob gives other numbers when it is called again; draw its noise from a torch.Generator that is "
            "seeded in the call, one tensor for all images."
        )
    if not torch.allclose(together[:1], alone, rtol=1e-3, atol=1e-4):
        raise PluginError(
            f"log_prob of an image depends on its neighbours ({together[0].item():.6g} beside another, "
            f"{alone[0].item():.6g} alone); draw one noise tensor for all images, and average nothing over the batch."
        )
    _probe_layers(model, images)
    if isinstance(model, AdaptedLatentModel) and "decode" in model._functions:
        try:
            model.reconstruct(images)
        except PluginError:
            raise
        except Exception as error:  # the user's, again
            raise PluginError(f"decode failed on two z: {type(error).__name__}: {error}.") from error


def _probe_layers(model: AdaptedModel, images: Tensor) -> None:
    """Try the layers that gradients are taken of, on two images and on one: another axis may have one batch's length.

    Raises:
        PluginError: the first axis of what enters a layer is not the images.
    """
    for (name, both), (_, one) in zip(_inputs(model, images), _inputs(model, images[:1]), strict=False):
        if len(both) != 2 or both[:1].shape != one.shape or (both[:1] - one).norm() > 0.01 * one.norm():
            shapes = ["x".join(map(str, shape)) for shape in (both.shape, one.shape)]
            layer = name.removeprefix(model._inside)
            raise PluginError(
                f"the first axis of what enters layer {layer!r} is not the images ({shapes[0]} for two, {shapes[1]} "
                "for one), so gradients per image cannot be told apart; name its parameters in layers=… "
                f"({layer}.weight), whose whole gradient is taken, or leave it out."
            )


def _inputs(model: AdaptedModel, images: Tensor) -> list[tuple[str, Tensor]]:
    """Return what enters each layer that gradients are taken of, in the order of the forward pass."""
    modules = dict(model.named_modules())
    found: list[tuple[str, Tensor]] = []
    handles = [
        modules[name].register_forward_pre_hook(
            lambda _, inputs, named, name=name: found.append((name, inputs[0] if inputs else named["input"])),
            with_kwargs=True,
        )
        for name in model.curvature_layers()
        if name in modules
    ]
    try:
        with torch.no_grad():
            model.log_prob(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _reset(module: nn.Module) -> nn.Module:
    """Draw every weight anew.

    Raises:
        PluginError: a module holds parameters of its own and has no `reset_parameters`.
    """
    for name, part in module.named_modules():
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()
        elif next(part.parameters(recurse=False), None) is not None:
            raise PluginError(
                f"the module's {name or type(part).__name__} has no reset_parameters, so no untrained twin can be "
                "made; give adapt(…, fresh=a function that builds the module)."
            )
    return module


# --- a module named on the command line ---------------------------------------------------------------------


def own_model_hash(reference: str, weights: str | Path | None) -> str:
    """Return the SHA-256 of a module's file, of those beside it that it imports, and of its weights' file."""
    digest = hashlib.sha256(reference.rpartition(":")[2].encode())
    for file in (*own_files(_split(reference)[0]), weights):
        digest.update(Path(os.path.expanduser(file)).read_bytes() if file is not None else b"")
    return digest.hexdigest()


def load_own_model(
    reference: str, weights: str | Path | None = None, device: str | torch.device = "auto"
) -> GenerativeModel:
    """Return the model that "path/to/module.py:factory" makes. This runs the file: name only code that you trust.

    Args:
        reference: a Python file and, in it, a function without arguments that returns what `adapt` returned (or a
            GenerativeModel).
        weights: safetensors, either of the user's own module's `state_dict()` or what `oodkit train` wrote; without it,
            the weights are those that the function made.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        OptionError: no such file or function, it fails, or it returns something else.
        ArtifactError: the weights are damaged, or do not fit.
    """
    path, name = _split(reference)
    spec = spec_from_file_location(f"oodkit_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise OptionError(f"{path} is no Python file.")
    module = module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # as Python does for a script: its neighbours can be imported
    try:
        spec.loader.exec_module(module)
        factory = getattr(module, name, None)
        if not callable(factory):
            raise OptionError(f"{path} has no function {name!r}; --model path/to/module.py:FUNCTION names one.")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            model = factory()
    except OptionError:
        raise
    except Exception as error:  # the user's file may raise anything
        raise OptionError(f"{reference} failed: {type(error).__name__}: {error}.") from error
    finally:
        sys.path.remove(str(path.parent))
    if not isinstance(model, GenerativeModel):
        raise OptionError(f"{reference} returned {type(model).__name__}; return oodkit.adapt(module, …).")
    if weights is not None:
        _load_weights(model, Path(os.path.expanduser(weights)))
    model.name = f"{path.name}:{name}"
    model.check_weights()
    return model.to(resolve_device(device)).eval()


def _split(reference: str) -> tuple[Path, str]:
    file, _, name = reference.rpartition(":")
    if not file or not name:
        raise OptionError(f"{reference} names no function; write path/to/module.py:FUNCTION, such as mine.py:make.")
    path = Path(os.path.expanduser(file)).resolve()  # of an unknown user, pathlib raises RuntimeError
    if not path.is_file():
        raise OptionError(f"there is no file {file}; --model path/to/module.py:FUNCTION names a file and its function.")
    return path, name


def _load_weights(model: GenerativeModel, path: Path) -> None:
    if not path.is_file():
        raise ArtifactError(f"there is no file {path}.")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            f"{path} is damaged or no safetensors file ({error}); write it with safetensors.torch.save_file("
            "module.state_dict(), path)."
        ) from error
    ours = tensors.keys() == model.state_dict().keys()
    target = model if ours or not isinstance(model, AdaptedModel) else model.module
    try:
        target.load_state_dict(tensors)
    except RuntimeError as error:
        raise ArtifactError(f"{path}: the weights do not fit the module ({' '.join(str(error).split())}).") from error
    if ours:
        with_record = _header(path)
        model.training_record = with_record.get("training", {})


def _header(path: Path) -> dict[str, Any]:  # Any: what JSON can hold
    try:
        return read_artifact(path, "model")[0]
    except ArtifactError:  # plain safetensors of the whole model
        return {}
