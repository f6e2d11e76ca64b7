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
    "create_model": "oodkit.named_models",
    "train_model": "oodkit.named_models",
    "load_model": "oodkit.named_models",
    "adapt": "oodkit.adapted",
    "create_detector": "oodkit.named_detectors",
    "load_detector": "oodkit.named_detectors",
    "detector_versions": "oodkit.named_detectors",
    "detector_files": "oodkit.registry",
    "benjamini_hochberg": "oodkit.calibration",
    "shared_work": "oodkit.distributed",
    # extending it
    "Detector": "oodkit.detector",
    "DetectorOptions": "oodkit.options",
    "GenerativeModel": "oodkit.model",
    "LatentVariableModel": "oodkit.model",
    "Classifier": "oodkit.model",
    "importance_weighted": "oodkit.model",
    "log_likelihood": "oodkit.model",
    "kl_divergence": "oodkit.model",
    "ModelOptions": "oodkit.options",
    "ClassifierOptions": "oodkit.options",
    "Trainable": "oodkit.training",
    "optimise": "oodkit.training",
    "CurvatureApproximation": "oodkit.curvature",
    "CurvatureOptions": "oodkit.options",
    "DampingOptions": "oodkit.options",
    "damped": "oodkit.curvature",
    "fit_curvature": "oodkit.curvature",
    "LayerGradient": "oodkit.layer_gradient",
    "BackwardPass": "oodkit.gradients",
    "backward_pass": "oodkit.gradients",
    "layer_gradients": "oodkit.gradients",
    "compressed_lengths": "oodkit.compression",
    "compressor_versions": "oodkit.compression",
    "Density": "oodkit.density",
    "DensityOptions": "oodkit.options",
    "PerturbationOptions": "oodkit.perturbation_options",
    "SvdOptions": "oodkit.perturbation_options",
    "DctOptions": "oodkit.perturbation_options",
    "GaussianBlurOptions": "oodkit.perturbation_options",
    "RandomOptions": "oodkit.perturbation_options",
    "Explanation": "oodkit.explanation",
    "fit_density": "oodkit.density",
    "load_density": "oodkit.density",
    "DatasetRequest": "oodkit.images",
    "Options": "oodkit.options",
    "INTERFACE_VERSION": "oodkit.plugin",
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

if TYPE_CHECKING:  # what __getattr__ resolves, for editors and mypy; a test holds the two lists together
    from oodkit.adapted import adapt as adapt
    from oodkit.calibration import benjamini_hochberg as benjamini_hochberg
    from oodkit.compression import compressed_lengths as compressed_lengths, compressor_versions as compressor_versions
    from oodkit.curvature import (
        CurvatureApproximation as CurvatureApproximation,
        damped as damped,
        fit_curvature as fit_curvature,
    )
    from oodkit.density import Density as Density, fit_density as fit_density, load_density as load_density
    from oodkit.detector import Detector as Detector
    from oodkit.distributed import shared_work as shared_work
    from oodkit.errors import (
        ArtifactError as ArtifactError,
        DataNotFoundError as DataNotFoundError,
        DeviceError as DeviceError,
        ImageError as ImageError,
        NotFittedError as NotFittedError,
        OodkitError as OodkitError,
        OptionError as OptionError,
        PluginError as PluginError,
        RunFolderError as RunFolderError,
        TrainingError as TrainingError,
        UnknownNameError as UnknownNameError,
    )
    from oodkit.explanation import Explanation as Explanation
    from oodkit.gradients import (
        BackwardPass as BackwardPass,
        backward_pass as backward_pass,
        layer_gradients as layer_gradients,
    )
    from oodkit.images import DatasetRequest as DatasetRequest, ImageSet as ImageSet
    from oodkit.layer_gradient import LayerGradient as LayerGradient
    from oodkit.loading import load_images as load_images
    from oodkit.model import (
        Classifier as Classifier,
        GenerativeModel as GenerativeModel,
        LatentVariableModel as LatentVariableModel,
        importance_weighted as importance_weighted,
        kl_divergence as kl_divergence,
        log_likelihood as log_likelihood,
    )
    from oodkit.named_detectors import (
        create_detector as create_detector,
        detector_versions as detector_versions,
        load_detector as load_detector,
    )
    from oodkit.named_models import create_model as create_model, load_model as load_model, train_model as train_model
    from oodkit.options import (
        ClassifierOptions as ClassifierOptions,
        CurvatureOptions as CurvatureOptions,
        DampingOptions as DampingOptions,
        DensityOptions as DensityOptions,
        DetectorOptions as DetectorOptions,
        ModelOptions as ModelOptions,
        Options as Options,
    )
    from oodkit.perturbation_options import (
        DctOptions as DctOptions,
        GaussianBlurOptions as GaussianBlurOptions,
        PerturbationOptions as PerturbationOptions,
        RandomOptions as RandomOptions,
        SvdOptions as SvdOptions,
    )
    from oodkit.plugin import (
        INTERFACE_VERSION as INTERFACE_VERSION,
        CurvatureSpec as CurvatureSpec,
        DatasetSpec as DatasetSpec,
        DetectorSpec as DetectorSpec,
        ModelSpec as ModelSpec,
        hookimpl as hookimpl,
    )
    from oodkit.registry import detector_files as detector_files
    from oodkit.training import Trainable as Trainable, optimise as optimise


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'oodkit' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
