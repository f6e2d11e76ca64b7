"""`CurvatureApproximation`: one layer's Fisher information F, as far as `sᵀ F⁻¹ s` needs it.

F is the empirical Fisher, E[s sᵀ] over training images (no samples of the model), as in the paper.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from oodkit.device import in_batches
from oodkit.distributed import share_of, summed
from oodkit.errors import ImageError
from oodkit.gradients import layer_gradients
from oodkit.images import ImageSet
from oodkit.layer_gradient import LayerGradient
from oodkit.model import GenerativeModel
from oodkit.options import CurvatureOptions, DampingOptions
from oodkit.progress import progress_bar

__all__ = ["CurvatureApproximation", "damped", "fit_curvature"]


class CurvatureApproximation(ABC):
    """F of one layer, learnt in `passes` passes over the images.

    A plugin writes `sums`, `end_pass` and `quadratic_form`; all that it learns goes into `state`, which is saved.

    Attributes:
        passes: how often the images are looked at. 0: F needs no data.
        options: an instance of the spec's options class.
        state: the tensors that `end_pass` returned so far.
    """

    passes: ClassVar[int] = 1

    def __init__(self, options: CurvatureOptions) -> None:
        self.options: Any = options  # Any: the spec says which class
        self.state: dict[str, Tensor] = {}

    @abstractmethod
    def sums(self, gradient: LayerGradient, number: int) -> dict[str, Tensor]:
        """Return named sums over the batch's images, for pass `number` (0, 1, …); the core adds them up.

        `gradient`, and what `state` holds of earlier passes, are float64.
        """

    @abstractmethod
    def end_pass(self, sums: Mapping[str, Tensor], count: int, number: int) -> dict[str, Tensor]:
        """Return what joins `state` after pass `number` over `count` images; `sums` are float64."""

    @abstractmethod
    def quadratic_form(self, gradient: LayerGradient) -> Tensor:
        """Return S = sᵀ F⁻¹ s per image, (N,), of the gradient's dtype (eq. 5)."""


def damped(eigenvalues: Tensor, options: DampingOptions) -> Tensor:
    """Return eigenvalues of F with both dampings added, at least the smallest positive float: ready to divide by."""
    added = options.damping + options.relative_damping * eigenvalues.mean()
    return (eigenvalues + added).clamp_min(torch.finfo(torch.float32).tiny)


def fit_curvature(
    model: GenerativeModel,
    images: ImageSet,
    approximations: Mapping[str, CurvatureApproximation],
    *,
    batch_size: int,
) -> None:
    """Fit each layer's approximation to the gradients of `images`: one backward pass a batch serves all layers.

    Args:
        model: on the device where the work is done.
        images: training images of the model's shape.
        approximations: by layer name; changed in place.
        batch_size: images in a backward pass; the result does not depend on it but for rounding.

    Raises:
        ImageError: a gradient is not finite.
    """
    passes = max((a.passes for a in approximations.values()), default=0)
    ours = share_of(images)
    batches = -(-len(ours) // batch_size)

    def gradients_of(batch: Tensor) -> dict[str, LayerGradient]:
        return layer_gradients(model, batch, list(approximations))

    with progress_bar("Fisher information", total=passes * batches) as bar:
        for number in range(passes):
            totals: dict[str, dict[str, Tensor]] = {name: {} for name in approximations}
            for gradients in in_batches(gradients_of, ours.images, batch_size, model.device):
                for name, gradient in gradients.items():
                    for part in gradient.split():
                        # float64: float32 products leave rounding errors in F's small eigenvalues, larger than the
                        # damping
                        for key, value in approximations[name].sums(part.double(), number).items():
                            total = totals[name].get(key)
                            totals[name][key] = value.double() if total is None else total.add_(value)
                bar.advance()
            for name, approximation in approximations.items():
                # popped: sums of one wide layer after the other may go before the next one's eigenvectors are there
                sums = {key: summed(value, len(images)) for key, value in totals.pop(name).items()}
                if not all(t.isfinite().all() for t in sums.values()):
                    raise ImageError(f"gradients of layer {name!r} are not finite on the fitting images.")
                approximation.state |= approximation.end_pass(sums, len(images), number)
    for approximation in approximations.values():  # scoring multiplies in the model's own precision
        approximation.state = {
            key: value.to(model.dtype) if value.is_floating_point() else value
            for key, value in approximation.state.items()
        }
