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
    "train_model": "oodkit.model",
    "load_model": "oodkit.model",
    "adapt": "oodkit.adapted",
    "create_detector": "oodkit.detector",
    "load_detector": "oodkit.detector",
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
    "LayerGradient": "oodkit.gradients",
    "BackwardPass": "oodkit.gradients",
    "backward_pass": "oodkit.gradients",
    "layer_gradients": "oodkit.gradients",
    "compressed_lengths": "oodkit.compression",
    "compressor_versions": "oodkit.compression",
    "Density": "oodkit.density",
    "DensityOptions": "oodkit.options",
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
    from oodkit.compression import compressed_lengths as compressed_lengths
    from oodkit.compression import compressor_versions as compressor_versions
    from oodkit.curvature import (
        CurvatureApproximation as CurvatureApproximation,
    )
    from oodkit.curvature import (
        damped as damped,
    )
    from oodkit.curvature import (
        fit_curvature as fit_curvature,
    )
    from oodkit.density import Density as Density
    from oodkit.density import fit_density as fit_density
    from oodkit.density import load_density as load_density
    from oodkit.detector import (
        Detector as Detector,
    )
    from oodkit.detector import (
        create_detector as create_detector,
    )
    from oodkit.detector import (
        load_detector as load_detector,
    )
    from oodkit.distributed import shared_work as shared_work
    from oodkit.errors import (
        ArtifactError as ArtifactError,
    )
    from oodkit.errors import (
        DataNotFoundError as DataNotFoundError,
    )
    from oodkit.errors import (
        DeviceError as DeviceError,
    )
    from oodkit.errors import (
        ImageError as ImageError,
    )
    from oodkit.errors import (
        NotFittedError as NotFittedError,
    )
    from oodkit.errors import (
        OodkitError as OodkitError,
    )
    from oodkit.errors import (
        OptionError as OptionError,
    )
    from oodkit.errors import (
        PluginError as PluginError,
    )
    from oodkit.errors import (
        RunFolderError as RunFolderError,
    )
    from oodkit.errors import (
        TrainingError as TrainingError,
    )
    from oodkit.errors import (
        UnknownNameError as UnknownNameError,
    )
    from oodkit.explanation import Explanation as Explanation
    from oodkit.gradients import BackwardPass as BackwardPass
    from oodkit.gradients import LayerGradient as LayerGradient
    from oodkit.gradients import backward_pass as backward_pass
    from oodkit.gradients import layer_gradients as layer_gradients
    from oodkit.images import DatasetRequest as DatasetRequest
    from oodkit.images import ImageSet as ImageSet
    from oodkit.loading import load_images as load_images
    from oodkit.model import (
        Classifier as Classifier,
    )
    from oodkit.model import (
        GenerativeModel as GenerativeModel,
    )
    from oodkit.model import (
        LatentVariableModel as LatentVariableModel,
    )
    from oodkit.model import (
        create_model as create_model,
    )
    from oodkit.model import (
        importance_weighted as importance_weighted,
    )
    from oodkit.model import (
        kl_divergence as kl_divergence,
    )
    from oodkit.model import (
        load_model as load_model,
    )
    from oodkit.model import (
        log_likelihood as log_likelihood,
    )
    from oodkit.model import (
        train_model as train_model,
    )
    from oodkit.options import (
        ClassifierOptions as ClassifierOptions,
    )
    from oodkit.options import (
        CurvatureOptions as CurvatureOptions,
    )
    from oodkit.options import (
        DampingOptions as DampingOptions,
    )
    from oodkit.options import (
        DensityOptions as DensityOptions,
    )
    from oodkit.options import (
        DetectorOptions as DetectorOptions,
    )
    from oodkit.options import (
        ModelOptions as ModelOptions,
    )
    from oodkit.options import (
        Options as Options,
    )
    from oodkit.plugin import (
        INTERFACE_VERSION as INTERFACE_VERSION,
    )
    from oodkit.plugin import (
        CurvatureSpec as CurvatureSpec,
    )
    from oodkit.plugin import (
        DatasetSpec as DatasetSpec,
    )
    from oodkit.plugin import (
        DetectorSpec as DetectorSpec,
    )
    from oodkit.plugin import (
        ModelSpec as ModelSpec,
    )
    from oodkit.plugin import (
        hookimpl as hookimpl,
    )
    from oodkit.training import Trainable as Trainable
    from oodkit.training import optimise as optimise


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'oodkit' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
