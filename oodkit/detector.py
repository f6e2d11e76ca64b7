"""`Detector`: scores images, given a fitted model (or none). Higher = more OOD, for every detector.

The public methods check, batch, place on the device and show progress; a plugin writes `_fit` and `_score`.
"""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor

from oodkit.artifact import write_artifact
from oodkit.calibration import check_alpha, p_values
from oodkit.curvature import CurvatureApproximation
from oodkit.device import float32_convolutions, in_batches
from oodkit.distributed import alone, from_first, gathered, share_of
from oodkit.errors import ArtifactError, DeviceError, NotFittedError, PluginError
from oodkit.explanation import Explanation
from oodkit.images import ImageSet, Shape, check_images
from oodkit.loading import Source, load_images
from oodkit.model import GenerativeModel, evaluating, frozen
from oodkit.options import DetectorOptions
from oodkit.progress import progress_bar
from oodkit.registry import registry

__all__ = ["Detector"]

OptionsT = TypeVar("OptionsT", bound=DetectorOptions)
Made = TypeVar("Made")


class Detector(ABC, Generic[OptionsT]):
    """Base of all detectors. Made by `create_detector` or `load_detector`.

    Attributes:
        name: the registered name.
        options: a frozen options object; recorded in the artifact.
        state: what `_fit` returned, on `device`: all that scoring needs beside the model.
        alpha: the false-alarm rate that `predict` keeps where it is given no other; saved, may be set at any time.
        device: where the work is done: the model's device.
        batch_size: images in one call of `_score`. Scores do not depend on it but for rounding.
        image_shape: (C, H, W); the model's, or for a detector without one, that of the fitting images.
        training_record: how a network of the detector's own was trained, as `optimise` returns it; `_fit` sets it.
        work_folder: where a long `_fit` may keep checkpoints, or None.
        curvature: the curvature approximation's class, for a detector over curvatures.
    """

    def __init__(
        self,
        name: str,
        model: GenerativeModel | None,
        options: OptionsT,
        *,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self.name = name
        self.options = options
        self.state: dict[str, Tensor] = {}
        self._alpha = 0.05
        self.device = device
        self.batch_size = batch_size
        self.image_shape: Shape | None = model.image_shape if model is not None else None
        self.training_record: dict[str, Any] = {}  # Any: what JSON can hold
        self.work_folder: Path | None = None
        self.curvature: type[CurvatureApproximation] | None = None
        self._model = model
        self._fitted = False
        self._calibration: Tensor | None = None  # scores of held-out images, float32 (n,), ascending, on the CPU
        self._made: tuple[dict[str, Tensor], Any] | None = None  # a state, and what `from_state` made of it; Any: Made

    def __init_subclass__(cls) -> None:
        """Refuse names that would hide what this class keeps in them.

        Raises:
            PluginError: names the method to rename.
        """
        super().__init_subclass__()
        if hidden := vars(cls).keys() & {"_model", "_fitted", "_calibration", "_alpha", "_made"}:
            raise PluginError(f"{cls.__name__} defines {hidden.pop()!r}, which Detector keeps its own in; rename it.")

    @abstractmethod
    def _fit(self, images: ImageSet) -> dict[str, Tensor]:
        """Return the whole state, learnt from `images`; an empty one where there is nothing to learn."""

    @abstractmethod
    def _score(self, images: Tensor) -> Tensor:
        """Return one number per image, (N,), of uint8 (N, C, H, W) on `device`; higher = more OOD."""

    @classmethod
    def versions(cls, options: OptionsT) -> dict[str, str]:
        """Return the versions of outside software that scores with `options` depend on, by name.

        Artifacts and rows record them; a run folder's scores of other versions are made again.
        """
        del options
        return {}

    def _explain(self, images: Tensor) -> Explanation:
        """Return what the score of each image is made of, of uint8 (N, C, H, W) on `device`; see `explain`.

        Raises:
            PluginError: a detector that does not write this has nothing to show.
        """
        raise PluginError(f"{self.name} has no numbers behind its score to show.")

    @property
    def model(self) -> Any:  # Any: the plugin's spec says which kind of model it asked for
        """The model, in evaluation mode.

        Raises:
            PluginError: the detector was registered with `model="none"`.
        """
        if self._model is None:
            raise PluginError(f"{self.name} has no model.")
        return self._model

    def fit(self, images: Source) -> Self:
        """Learn from in-distribution training images and return self.

        Args:
            images: of the model's `image_shape`, what the model was trained on: a tensor, uint8, (N, C, H, W), or
                whatever else `oodkit.load_images` takes.

        Raises:
            ImageError: wrong dtype or shape, no image at all, or too few for this detector.
            TrainingError: the model's weights hold NaN.
        """
        images = self._checked(images, self._model.image_shape if self._model is not None else None)
        if self._model is not None:
            self._model.check_weights()
            self.device = self._model.device
        before, self.image_shape = self.image_shape, images.image_shape
        try:
            with (
                torch.inference_mode(False),
                float32_convolutions(),
                evaluating(self._model) if self._model is not None else nullcontext(),
            ):
                state = self._fit(images)
        except BaseException:  # what was learnt before is of images of the shape before
            self.image_shape = before
            raise
        return self.restore({key: from_first(value.detach()) for key, value in state.items()}, images.image_shape)

    def restore(self, state: dict[str, Tensor], image_shape: Shape | None, calibration: Tensor | None = None) -> Self:
        """Take the `state` that another detector of the same name, options and model has learnt, and return self.

        Args:
            state: what its `_fit` returned.
            image_shape: (C, H, W) of the images that it takes.
            calibration: the scores of its calibration images, float32 (n,), ascending, where it had some.
        """
        self.state = {key: value.to(self.device) for key, value in state.items()}
        self.image_shape = image_shape
        self._fitted = True
        self._calibration = calibration
        return self

    def check_state(self, source: str) -> None:
        """Refuse a state, read from `source`, that the plugin cannot score with: one grey image is scored.

        Raises:
            ArtifactError: names of tensors, shapes, dtypes or numbers are not what the plugin's `_fit` returns.
            DeviceError: a single image needs more memory than there is.
        """
        nan = [key for key, value in self.state.items() if value.is_floating_point() and value.isnan().any()]
        if nan:
            raise ArtifactError(f"{source}: {nan[0]!r} of what {self.name} has learnt holds NaN; fit and save again.")
        reason = ""
        try:
            grey = torch.full((1, *self.image_shape), 128, dtype=torch.uint8)  # type: ignore[misc]  # its shape was read
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                score = self.per_image(self._score, ImageSet("a grey image", "test", grey))
            if score.shape != (1,):
                reason = f"the score of an image has shape {tuple(score.shape)}"
        except DeviceError:
            raise
        except Exception as error:  # a state that nobody vouches for: a plugin's code may raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
        if reason:
            raise ArtifactError(
                f"{source}: what it has learnt does not fit {self.name} ({reason}); fit and save again."
            )

    def score(self, images: Source) -> Tensor:
        """Return the OOD score of each image, (N,), float32, on the CPU; higher = more OOD.

        Scores have no unit in common: compare them within one fitted detector only. A score that is NaN becomes
        +inf, the most OOD, with a warning: an image on which the numbers break down is not to be trusted.

        Args:
            images: of the model's `image_shape`: a tensor, uint8, (N, C, H, W), or whatever else `oodkit.load_images`
                takes.

        Raises:
            ImageError: wrong dtype or shape, or no image at all.
            NotFittedError: neither `fit` nor `load_detector` came first.
        """
        images = self._checked_fitted(images)
        scores = self.per_image(self._score, images, text=f"score: {self.name}").float().cpu()
        if broken := int(scores.isnan().sum()):
            warnings.warn(f"{self.name}: {broken} of {len(scores)} scores are NaN; taken as +inf.", stacklevel=2)
            scores = scores.masked_fill(scores.isnan(), torch.inf)
        return scores

    def calibrate(self, images: Source) -> Self:
        """Remember the scores of held-out in-distribution images, for `p_value` and `predict`, and return self.

        Args:
            images: uint8, (N, C, H, W): in-distribution, like those to come, and seen by neither the model nor `fit`.
                Images that either was trained on score lower than new ones; the false-alarm rate would not hold.

        Raises:
            ImageError: wrong dtype or shape, or no image at all.
            NotFittedError: neither `fit` nor `load_detector` came first.
        """
        self._calibration = self.score(images).sort().values
        return self

    def p_value(self, images: Source) -> Tensor:
        """Return each image's p-value, (N,), float64, in [1/(n + 1), 1]: how rare so high a score is in distribution.

        (1 + the number of the n calibration scores that are as high or higher) / (n + 1). Lower = more OOD. For an
        image like the calibration images, P(p ≤ α) ≤ α for every α.

        Raises:
            NotFittedError: `calibrate` did not come first.
            ImageError: wrong dtype or shape, or no image at all.
        """
        return self.p_value_of(self.score(images))

    def p_value_of(self, scores: Tensor) -> Tensor:
        """Return the p-values of scores that `score` returned, (N,), float64; as `p_value`.

        Raises:
            NotFittedError: `calibrate` did not come first.
        """
        return p_values(scores, self._calibration_scores())

    @property
    def alpha(self) -> float:
        """The false-alarm rate of `predict`.

        Raises:
            OptionError: what it is set to is not between 0 and 1.
        """
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        check_alpha(alpha)
        self._alpha = alpha

    @property
    def calibrated(self) -> bool:
        """Whether there are calibration scores, so that there are p-values."""
        return self._calibration is not None

    def predict(self, images: Source, alpha: float | None = None) -> Tensor:
        """Return which images are called OOD, bool (N,): those whose p-value is at most `alpha`.

        Of images like the calibration images, at most a share `alpha` is called OOD, on average. No share of OOD
        images is asked for. `benjamini_hochberg(detector.p_value(images))` judges a batch as a whole.

        Args:
            images: uint8, (N, C, H, W), of the model's `image_shape`.
            alpha: the false-alarm rate; by default the attribute `alpha`.

        Raises:
            NotFittedError: `calibrate` did not come first.
            OptionError: `alpha` is not between 0 and 1.
        """
        alpha = self.alpha if alpha is None else alpha
        check_alpha(alpha)
        calibration = self._calibration_scores()
        if alpha * (len(calibration) + 1) < 1:
            warnings.warn(
                f"{self.name}: {len(calibration)} calibration images cannot show a p-value of {alpha:g}, so nothing "
                f"is called OOD; calibrate on at least {math.ceil(1 / alpha) - 1}.",
                stacklevel=2,
            )
        return self.p_value(images) <= alpha

    @property
    def threshold(self) -> float:
        """The score that `predict` calls OOD from, exclusive: +inf where the calibration images are too few.

        Raises:
            NotFittedError: `calibrate` did not come first.
        """
        calibration = self._calibration_scores()
        allowed = math.floor(self.alpha * (len(calibration) + 1) + 1e-9) - 1  # calibration scores that may be as high
        return float(calibration[len(calibration) - 1 - allowed]) if allowed >= 0 else math.inf

    def explain(self, images: Source) -> Explanation:
        """Return the numbers that each image's score is made of: layers, statistics.

        Raises:
            PluginError: a detector whose score is one number.
            NotFittedError: neither `fit` nor `load_detector` came first.
            ImageError: wrong dtype or shape, or no image at all.
        """
        images = self._checked_fitted(images)
        with self._looking():
            parts = list(in_batches(self._explain, images.images, self.batch_size, self.device))
        shares = [part.contributions.cpu() for part in parts if part.contributions is not None]
        return Explanation(parts[0].names, torch.cat([p.z.cpu() for p in parts]), torch.cat(shares) if shares else None)

    def per_image(self, function: Callable[[Tensor], Tensor], images: ImageSet, text: str = "") -> Tensor:
        """Return `function` of all images, batch by batch without gradients, joined along the first axis.

        No weight of the model takes a gradient meanwhile; `function` may ask for others under `torch.enable_grad`.

        Args:
            function: from uint8 (n, C, H, W) on `device` to (n, …).
            images: any number of them.
            text: what the progress bar says; by default the detector's name.
        """
        parts = []
        ours = share_of(images)
        with self._looking(), progress_bar(text or self.name, total=len(ours)) as bar:
            with alone():  # what `function` scores by other detectors is of this process's images only
                for part in in_batches(function, ours.images, self.batch_size, self.device):
                    parts.append(part)
                    bar.advance(len(part))
            return gathered(torch.cat(parts), len(images))

    def from_state(self, make: Callable[[], Made]) -> Made:
        """Return what `make` makes of `state` (networks of a detector's own, say), for `_score` to work with.

        It is made anew only where `fit` or `load_detector` have replaced the state. A detector keeps one such thing.

        Args:
            make: without arguments; always the same one.
        """
        if self._made is None or self._made[0] is not self.state:
            self._made = self.state, make()
        made: Made = self._made[1]
        return made

    @contextmanager
    def _looking(self) -> Generator[None]:
        """Surround what looks through the model: frozen, without gradients, in float32; it is undone at the end."""
        model = frozen(self._model) if self._model is not None else nullcontext()
        # Out of a program's inference mode: gradients of images are asked for under `torch.enable_grad`.
        with torch.inference_mode(False), torch.no_grad(), float32_convolutions(), model:
            yield

    def save(self, path: str | Path) -> None:
        """Write the fitted detector, with its model, to one safetensors file, atomically.

        Raises:
            NotFittedError: there is nothing to save yet.
            ArtifactError: no space, or no such folder.
        """
        if not self._fitted:
            raise NotFittedError(f"{self.name} is not fitted; call fit(images) before save.")
        header = {
            "detector": self.name,
            "origin": registry().detector(self.name).origin,
            "options": self.options.model_dump(mode="json"),
            "image_shape": self.image_shape,
            "versions": self.versions(self.options),
            "training": self.training_record,
            "model": self._model.describe() if self._model is not None else None,
            "alpha": self.alpha,
        }
        tensors = {f"state.{key}": value for key, value in self.state.items()}
        if self._model is not None:
            tensors |= {f"model.{key}": value for key, value in self._model.state_dict().items()}
        if self._calibration is not None:
            tensors["calibration"] = self._calibration
        write_artifact(path, "detector", header, tensors)

    def _calibration_scores(self) -> Tensor:
        if self._calibration is None:
            raise NotFittedError(
                f"{self.name} is not calibrated; call calibrate(images) with in-distribution images that neither the "
                "model nor fit has seen."
            )
        return self._calibration

    def _checked_fitted(self, images: Source) -> ImageSet:
        if not self._fitted:
            raise NotFittedError(f"{self.name} is not fitted; call fit(images) first, or oodkit.load_detector(path).")
        if self._model is not None and self._model.device != self.device:
            raise DeviceError(
                f"{self.name} was fitted on {self.device}, and its model is on {self._model.device} now; move the "
                "model back, or fit again."
            )
        return self._checked(images, self.image_shape)

    @staticmethod
    def _checked(images: Source, shape: Shape | None) -> ImageSet:
        if isinstance(images, Tensor):
            images = ImageSet("images", "", images.detach().cpu())
        elif not isinstance(images, ImageSet):
            images = load_images(images)  # as they are: another size is refused below
        check_images(images.images, images.name, shape)
        return images
