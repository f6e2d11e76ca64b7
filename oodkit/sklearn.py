"""`OODEstimator`: any detector in scikit-learn's manner, for pipelines and cross-validation.

scikit-learn's sign is the opposite of oodkit's: `score_samples` and `decision_function` are higher for what is more
normal. PyOD's `decision_function` has oodkit's sign.
"""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from oodkit.detector import Detector
from oodkit.errors import ImageError, OptionError
from oodkit.images import ImageSet, Shape
from oodkit.loading import load_images
from oodkit.model import GenerativeModel
from oodkit.named_detectors import create_detector
from oodkit.named_models import train_model
from oodkit.registry import registry

__all__ = ["OODEstimator"]

Numbers = NDArray[np.float64]
FEWEST = 5  # rows that can be split into those that are fitted and those that set the threshold


class OODEstimator(OutlierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A detector, with its model, that is fitted to rows of flattened images.

    There is no `contamination`: the threshold of `predict` is the (1 − alpha) quantile of the scores of rows that the
    detector was not fitted to, so that about a share `alpha` of new in-distribution rows is called an outlier.

    Args:
        detector: a registered detector.
        model: a registered model, trained in `fit`; or a trained model, used as it is; None where the detector needs
            none.
        image_shape: (C, H, W) of a row, C·H·W features; by default one row of pixels, (1, 1, features).
        resize: (C, H, W) to bring the images to, such as (1, 32, 32) for the built-in models; by default none.
        value_range: what black and white are: (0, 255) for bytes, (0, 1) for shares; values outside are refused. "fit":
            the lowest and the highest value of the rows that are fitted; others are clipped.
        alpha: the share of in-distribution rows that `predict` may call outliers.
        calibration_share: the share of the rows that sets the threshold and is not fitted.
        detector_options: options of the detector, a dictionary.
        model_options: options of the model, a dictionary.
        random_state: seed of the model, the detector and the split.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Attributes:
        detector_: the fitted detector.
        offset_: the threshold; `decision_function` is `score_samples` less this.
        n_features_in_: features of a row.
    """

    def __init__(
        self,
        detector: str = "rose-ekfac",
        model: str | GenerativeModel | None = "vae",
        *,
        image_shape: Shape | None = None,
        resize: Shape | None = None,
        value_range: tuple[float, float] | str = (0, 255),
        alpha: float = 0.05,
        calibration_share: float = 0.2,
        detector_options: dict[str, Any] | None = None,  # Any: an option's value
        model_options: dict[str, Any] | None = None,  # Any: as above
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        self.detector = detector
        self.model = model
        self.image_shape = image_shape
        self.resize = resize
        self.value_range = value_range
        self.alpha = alpha
        self.calibration_share = calibration_share
        self.detector_options = detector_options
        self.model_options = model_options
        self.random_state = random_state
        self.device = device

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Train the model where it is a name, fit the detector, and set the threshold; return self.

        Args:
            X: (N, C·H·W), numbers within `value_range`.
            y: not used.

        Raises:
            OptionError: alpha or calibration_share is not between 0 and 1, or an option is wrong.
            ImageError: too few rows, values outside of `value_range`, or features that do not make `image_shape`.
        """
        for name in ("alpha", "calibration_share"):
            if not 0 < getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1.")
        rows = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        if isinstance(self.value_range, str) and self.value_range != "fit":
            raise OptionError(f'value_range is {self.value_range!r}; give (lowest, highest), or "fit".')
        low, high = (rows.min(), rows.max()) if isinstance(self.value_range, str) else self.value_range
        self.range_ = (float(low), float(high))
        images = self._images(rows)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.random_state))
        held = max(1, round(self.calibration_share * len(images)))
        few = len(images) < FEWEST  # the threshold is then that of the rows themselves
        fitting = images if few else images.select(order[held:].sort().values)
        self.detector_ = self._create(fitting).fit(fitting)
        scores = self.detector_.score(images if few else images.select(order[:held]))
        self.offset_ = -float(np.quantile(scores.double().numpy(), 1 - self.alpha, method="higher"))
        return self

    def score_samples(self, X: ArrayLike) -> Numbers:
        """Return minus the OOD score of each row, (N,), float64: higher = more normal."""
        check_is_fitted(self, "detector_")
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        scores: Numbers = -self.detector_.score(self._images(rows)).double().numpy()
        return scores

    def decision_function(self, X: ArrayLike) -> Numbers:
        """Return `score_samples` less `offset_`, (N,): negative for outliers."""
        scores = self.score_samples(X)
        at_threshold = scores == self.offset_  # both may be infinite
        result: Numbers = np.where(at_threshold, 0.0, scores - np.where(at_threshold, 0.0, self.offset_))
        return result

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return +1 for in-distribution rows and −1 for outliers, (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _create(self, images: ImageSet) -> Detector[Any]:  # Any: options of any detector
        model = self.model
        if registry().detector(self.detector).spec.model == "none":
            model = None
        elif isinstance(model, str):
            options = self.model_options or {}
            model = train_model(model, images, seed=self.random_state, device=self.device, **options)
        options = {"seed": self.random_state, **(self.detector_options or {})}
        return create_detector(self.detector, model, device=self.device, **options)

    def _images(self, rows: Numbers) -> ImageSet:
        """Return rows (N, features) as images.

        Raises:
            ImageError: the features do not make `image_shape`, or values lie outside of the range.
        """
        shape = self.image_shape or (1, 1, rows.shape[1])
        if int(np.prod(shape)) != rows.shape[1]:
            raise ImageError(
                f"a row has {rows.shape[1]} features, and image_shape {shape} makes {int(np.prod(shape))}; change it."
            )
        low, high = self.range_
        if self.value_range != "fit" and (rows.min() < low or rows.max() > high):
            raise ImageError(
                f"values from {rows.min():.6g} to {rows.max():.6g} are not all within value_range {self.range_}; "
                'give the range that they have, or value_range="fit".'
            )
        if tuple(self.value_range) == (0, 255) and 0 < rows.max() <= 1 and (rows % 1).any():
            raise ImageError(
                "values are shares from 0 to 1, which bytes would round to black; give value_range=(0, 1), or "
                "rows * 255."
            )
        shares = (rows.clip(low, high) - low) / ((high - low) or 1.0)
        pixels = torch.from_numpy((255 * shares).round().astype(np.uint8)).reshape(-1, *shape)
        return load_images(ImageSet("rows", "train", pixels), image_shape=self.resize)
