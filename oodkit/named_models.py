"""Models by their registered names: `create_model`, `train_model`, `load_model`."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from oodkit.artifact import read_artifact, saved_shape
from oodkit.device import resolve_device
from oodkit.errors import ArtifactError, OodkitError, PluginError
from oodkit.images import ImageSet, Shape, check_images, check_labels
from oodkit.loading import Source, load_images
from oodkit.model import Classifier, GenerativeModel, build_model
from oodkit.registry import load_target, model_options, registry
from oodkit.training import optimise

__all__ = ["create_model", "load_model", "rebuild_model", "train_model"]


def create_model(
    name: str, image_shape: Shape, *, seed: int = 0, device: str | torch.device = "auto", **options: Any
) -> GenerativeModel:  # Any: an option's value
    """Return an untrained model.

    Args:
        name: a registered model; `oodkit list` shows them.
        image_shape: (C, H, W) of the images that it is to take.
        seed: of its weights. The global random state is left as it was.
        device: "auto", "cpu", "cuda" or "cuda:N".
        **options: the model's options; `oodkit show NAME` lists them.

    Raises:
        UnknownNameError: no package registers `name`.
        OptionError: an unknown option, or a value that is not allowed.
        DeviceError: a device that is not there.
    """
    entry = registry().model(name)
    parsed = model_options(entry).parse(name, options)
    model: GenerativeModel = build_model(load_target(entry.spec.target, name), image_shape, parsed, seed)
    model.name = name
    return model.to(resolve_device(device))


def train_model(
    model: str | GenerativeModel,
    images: Source,
    *,
    seed: int = 0,
    device: str | torch.device = "auto",
    checkpoint: str | Path | None = None,
    **options: Any,  # Any: an option's value
) -> GenerativeModel:
    """Return a trained model, in evaluation mode.

    Args:
        model: a registered name, or a model to train on (a `fresh()` one, say), which is changed in place.
        images: the in-distribution training images: a tensor, uint8, (N, C, H, W), or whatever else `load_images`
            takes.
        seed: of the weights, the order of the images and the noise.
        device: "auto", "cpu", "cuda" or "cuda:N"; for a model that exists, where it is.
        checkpoint: a file written after every epoch. Where it exists, training goes on from there, with the same
            result as if it had never stopped. It is kept at the end: remove it once the model is saved.
        **options: the model's options; for a model that exists, its recipe's (epochs, learning_rate, …).

    Raises:
        TrainingError: the loss is no longer finite.
        ImageError: wrong dtype or shape, or no image at all; for a classifier, no labels or others than its classes.
        OptionError: an unknown option, or a value that is not allowed.
        PluginError: what is to be trained is no model.
    """
    if not isinstance(model, str | GenerativeModel):
        raise PluginError(f"{type(model).__name__} is no model of oodkit; oodkit.adapt(module, …) makes one of it.")
    if isinstance(images, Tensor):
        data = ImageSet("images", "train", images.detach().cpu())
    else:
        data = images if isinstance(images, ImageSet) else load_images(images, "train")
    if isinstance(model, str):
        model = create_model(model, data.image_shape, seed=seed, device=device, **options)
        recipe = model.options
    else:
        recipe = type(model.options).parse(model.name, {**model.options.model_dump(), **options})
    check_images(data.images, data.name, model.image_shape)
    if isinstance(model, Classifier):
        check_labels(data, model.name, model.options.classes)
    record = optimise(model, data, recipe, name=model.name, seed=seed, checkpoint=checkpoint, show=model.loss_text)
    if not isinstance(model, Classifier):
        record["bits_per_dimension"] = [round(model.bits_per_dimension(nats), 5) for nats in record["losses"]]
    model.training_record = record
    return model.eval()


def load_model(path: str | Path, device: str | torch.device = "auto") -> GenerativeModel:
    """Return the model that `model.save(path)` wrote.

    Raises:
        ArtifactError: damaged, no model, or made by a plugin that is not installed.
        TrainingError: its weights hold NaN.
    """
    header, tensors = read_artifact(path, "model")
    return rebuild_model(header, tensors, device, str(path))


def rebuild_model(
    header: dict[str, Any],
    tensors: dict[str, Tensor],
    device: str | torch.device,
    source: str,
    own: GenerativeModel | None = None,
) -> GenerativeModel:
    """Return the model of an artifact's header and weights; a model that no plugin registers is given as `own`.

    Raises:
        ArtifactError: the weights do not fit the model that the header describes, or its plugin is missing; a model is
            given where the file has one.
        PluginError: what is given is no model.
    """
    name = str(header.get("model", ""))
    if own is not None and not isinstance(own, GenerativeModel):
        raise PluginError(f"{type(own).__name__} is no model of oodkit; give oodkit.adapt(module, …).")
    if own is not None and name in registry().models:
        raise ArtifactError(f"{source} holds its own model, {name}; leave the other model out.")
    if own is not None:
        try:
            own.load_state_dict(tensors)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ArtifactError(f"{source}: the weights do not fit the model that was given ({reason}).") from error
        own.training_record = header.get("training", {})
        own.check_weights()
        return own.to(resolve_device(device)).eval()
    if header.get("model") == "" or ".py:" in name:
        raise ArtifactError(
            f"{source} holds a model of your own{f', {name}' if name else ''}; give it again: "
            "load_detector(path, model=oodkit.adapt(…)), or --model path/to/module.py:FUNCTION."
        )
    if name not in registry().models:
        raise ArtifactError(
            f"{source} holds a model {name!r} of {header.get('origin') or 'an unknown package'}, not installed here."
        )
    try:
        shape, options = saved_shape(header["image_shape"]), header["options"]
        _check_described(name, shape, options, tensors)
        model = create_model(name, shape, device=device, **options)
        model.to(_saved_dtype(tensors))  # float64 stays float64
        model.load_state_dict(tensors)
        model.training_record = dict(header["training"])
    except Exception as error:  # a header that nobody vouches for: a model's code may raise anything
        if isinstance(error, OodkitError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ArtifactError(
            f"{source}: the weights do not fit the model {name!r} ({reason}); make it again."
        ) from error
    model.check_weights()
    return model.eval()


def _saved_dtype(tensors: dict[str, Tensor]) -> torch.dtype:
    """Return the dtype of the weights.

    Raises:
        ValueError: it is neither float32 nor float64, which models compute in.
    """
    dtype = next(t.dtype for t in tensors.values() if t.is_floating_point())
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"they are {dtype}; float32 and float64 are read")
    return dtype


def _check_described(name: str, shape: Shape, options: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Refuse a description of another model than the weights are of, before memory is taken for it.

    Raises:
        ValueError: names, or sizes, differ.
    """
    entry = registry().model(name)
    kind, parsed = load_target(entry.spec.target, name), model_options(entry).parse(name, options)
    with suppress(NotImplementedError), torch.device("meta"), _Undrawn():  # a constructor may look at its weights
        described = {key: value.shape for key, value in build_model(kind, shape, parsed, 0).state_dict().items()}
        if described != {key: value.shape for key, value in tensors.items()}:
            raise ValueError("the header describes a model of another size")


class _Undrawn(TorchFunctionMode):
    """Layers are made without drawing their weights: on the meta device torch would load its compiler to draw none."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # Any: what `function` takes and returns
        if getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return function(*args, **(kwargs or {}))
