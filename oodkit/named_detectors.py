"""Detectors by their registered names: `create_detector`, `load_detector`."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oodkit.artifact import read_artifact, saved_shape
from oodkit.detector import Detector
from oodkit.device import resolve_device
from oodkit.errors import ArtifactError, OptionError, PluginError
from oodkit.model import Classifier, GenerativeModel, LatentVariableModel
from oodkit.named_models import rebuild_model
from oodkit.plugin import DetectorSpec
from oodkit.registry import Registered, detector_options, load_target, registry

__all__ = ["check_model_kind", "create_detector", "detector_versions", "load_detector", "load_detector_class"]


def create_detector(
    name: str,
    model: GenerativeModel | None = None,
    *,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    **options: Any,  # Any: an option's value
) -> Detector[Any]:
    """Return a detector, not yet fitted.

    Args:
        name: a registered detector; `oodkit list` shows them.
        model: what it looks through; None for detectors that need none.
        device: the model is moved there; by default it stays where it is.
        batch_size: images at a time; by default 32 on the CPU, where a batch should stay in the cache, else 256.
        **options: the detector's options; `oodkit show NAME` lists them.

    Raises:
        UnknownNameError: no package registers `name`.
        OptionError: an unknown option, or a value that is not allowed; a batch size below 1.
        PluginError: a model of a kind that this detector cannot use, or what is no model.
    """
    entry = registry().detector(name)
    parsed = detector_options(entry).parse(entry.spec.name, options)
    check_model_kind(entry, model)
    if entry.spec.model == "none":
        model = None
    if model is not None and device is not None:
        model.to(resolve_device(device))
    where = model.device if model is not None else resolve_device(device or "auto")
    if batch_size is None:
        batch_size = 256 if where.type == "cuda" else 32
    if batch_size < 1:
        raise OptionError(f"{name}: batch_size is {batch_size}; it must be at least 1 image.")
    kind = load_detector_class(entry)
    detector: Detector[Any] = kind(entry.spec.name, model, parsed, device=where, batch_size=batch_size)
    if entry.curvature is not None:
        detector.curvature = load_target(entry.curvature.target, entry.spec.name)
    return detector


def load_detector_class(entry: Registered[DetectorSpec]) -> type[Detector[Any]]:  # Any: options of any detector
    """Return the class that a registered detector names.

    Raises:
        PluginError: it cannot be imported.
    """
    kind: type[Detector[Any]] = load_target(entry.spec.target, entry.spec.name)
    return kind


def detector_versions(name: str, **options: Any) -> dict[str, str]:  # Any: an option's value
    """Return the versions of outside software that the scores of a detector with these options depend on, by name.

    Raises:
        UnknownNameError: no package registers `name`.
        OptionError: an unknown option, or a value that is not allowed.
    """
    entry = registry().detector(name)
    return load_detector_class(entry).versions(detector_options(entry).parse(entry.spec.name, options))


def check_model_kind(entry: Registered[DetectorSpec], model: GenerativeModel | None) -> None:
    """Refuse a model that the detector cannot use.

    Raises:
        PluginError: names what the detector needs.
    """
    needs = entry.spec.model
    if model is not None and not isinstance(model, GenerativeModel):
        raise PluginError(
            f"{entry.spec.name}: {type(model).__name__} is no model of oodkit; oodkit.adapt(module, …) makes one of "
            "any torch.nn.Module, oodkit.load_model(path) reads one."
        )
    if needs != "none" and model is None:
        raise PluginError(f"{entry.spec.name} needs a model: oodkit.train_model(…) or oodkit.load_model(path).")
    if needs == "density" and isinstance(model, Classifier):
        raise PluginError(
            f"{entry.spec.name} needs a density of images such as vae or glow; {model.name or type(model).__name__} is "
            "a classifier. Choose another model, or another detector."
        )
    if needs == "latent-variable" and not isinstance(model, LatentVariableModel):
        raise PluginError(
            f"{entry.spec.name} needs a latent-variable model such as vae; {model.name or type(model).__name__} has "  # type: ignore[union-attr]  # None was refused above
            "no encoder. Choose another model, or another detector."
        )


def load_detector(
    path: str | Path,
    device: str | torch.device = "auto",
    batch_size: int | None = None,
    *,
    model: GenerativeModel | None = None,
) -> Detector[Any]:
    """Return the fitted detector, with its model, that `detector.save(path)` wrote.

    Args:
        path: the file.
        device: "auto", "cpu", "cuda" or "cuda:N".
        batch_size: images at a time; by default as for `create_detector`.
        model: where the detector looks through a model of your own (`oodkit.adapt`): such a model again, whose weights
            are replaced by those of the file. Any other detector has its model in the file, and takes none.

    Raises:
        ArtifactError: damaged, no detector, made by a plugin that is not installed, its weights do not fit `model`, or
            what was learnt does not fit the plugin: one image is scored to see that.
    """
    header, tensors = read_artifact(path, "detector")
    name = str(header.get("detector", ""))
    if name not in registry().detectors:
        raise ArtifactError(f"{path} holds a detector {name!r} of {header.get('origin')}, which is not installed.")
    try:
        weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        model = rebuild_model(header["model"], weights, device, str(path), model) if header["model"] else None
        detector = create_detector(name, model, device=device, batch_size=batch_size, **header["options"])
        state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
        shape = saved_shape(header["image_shape"])
        if model is not None and shape != model.image_shape:
            raise ArtifactError(f"{path}: the detector takes {shape}, its model {model.image_shape}; fit it again.")
        detector.restore(state, shape, _saved_calibration(tensors))
        detector.alpha = header.get("alpha", detector.alpha)
        detector.training_record = dict(header.get("training", {}))
        recorded = {name: str(version) for name, version in header.get("versions", {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path}: its header is damaged ({error}); fit and save again.") from error
    detector.check_state(str(path))
    present = detector.versions(detector.options)
    if recorded != present:
        warnings.warn(
            f"{path} was saved with {_listed(recorded)}, here is {_listed(present)}: the scores of {name} may differ. "
            "Compare only scores that were made with the same versions.",
            stacklevel=2,
        )
    return detector


def _saved_calibration(tensors: dict[str, Tensor]) -> Tensor | None:
    """Return the calibration scores of an artifact, where it has some.

    Raises:
        ValueError: they are no ascending numbers.
    """
    if "calibration" not in tensors:
        return None
    scores = tensors["calibration"].cpu()
    if scores.ndim != 1 or not len(scores) or scores.dtype != torch.float32 or (scores != scores.sort().values).any():
        raise ValueError("the calibration scores are not ascending float32 numbers")
    return scores


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "no record of versions"
