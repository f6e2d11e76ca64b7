"""oodkit: tells when an input is out-of-distribution for a deep generative model.

The public names, on one screen. They are resolved when first used, so that `import oodkit` never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_PUBLIC = {
    # using it
    "load_images": "oodkit.loading",
    "ImageSet": "oodkit.images",
    "create_model": "oodkit.model",
    "train_model": "oodkit.training",
    "load_model": "oodkit.model",
    "create_detector": "oodkit.detector",
    "load_detector": "oodkit.detector",
    # extending it
    "Detector": "oodkit.detector",
    "DetectorOptions": "oodkit.options",
    "GenerativeModel": "oodkit.model",
    "LatentVariableModel": "oodkit.model",
    "ModelOptions": "oodkit.options",
    "CurvatureApproximation": "oodkit.curvature",
    "CurvatureOptions": "oodkit.options",
    "DampingOptions": "oodkit.options",
    "damped": "oodkit.curvature",
    "fit_curvature": "oodkit.curvature",
    "LayerGradient": "oodkit.gradients",
    "layer_gradients": "oodkit.gradients",
    "DatasetRequest": "oodkit.images",
    "Options": "oodkit.options",
    "hookimpl": "oodkit.plugin",
    "DetectorSpec": "oodkit.plugin",
    "ModelSpec": "oodkit.plugin",
    "DatasetSpec": "oodkit.plugin",
    "CurvatureSpec": "oodkit.plugin",
    # errors
    "OodkitError": "oodkit.errors",
    "ArtifactError": "oodkit.errors",
    "DataNotFoundError": "oodkit.errors",
    "DeviceError": "oodkit.errors",
    "ImageError": "oodkit.errors",
    "NotFittedError": "oodkit.errors",
    "OptionError": "oodkit.errors",
    "PluginError": "oodkit.errors",
    "RunFolderError": "oodkit.errors",
    "TrainingError": "oodkit.errors",
    "UnknownNameError": "oodkit.errors",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:  # so that editors and mypy see what __getattr__ resolves
    pass


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'oodkit' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
