"""Leave-one-class-out: the model is trained without a class, and that class is the OOD set.

The fairest of all OOD sets: same camera, same preparation, another thing in the picture.
"""

from dataclasses import replace

import torch

from oodkit.errors import ImageError, OptionError
from oodkit.images import ImageSet

__all__ = ["LEAVE_OUT", "left_out", "only", "without"]

LEAVE_OUT = "leave-out:"  # then a label


def left_out(sources: tuple[str, ...]) -> dict[str, int]:
    """Return the labels that are left out, by the source that names them ("leave-out:3").

    Raises:
        OptionError: what follows is no number.
    """
    texts = {source: source.removeprefix(LEAVE_OUT) for source in sources if source.startswith(LEAVE_OUT)}
    if wrong := [text for text in texts.values() if not text.isdecimal()]:
        raise OptionError(f"{LEAVE_OUT}{wrong[0]}: a class is left out by its number, as in {LEAVE_OUT}3.")
    return {source: int(text) for source, text in texts.items()}


def only(images: ImageSet, label: int) -> ImageSet:
    """Return the images of one class.

    Raises:
        ImageError: there are none, or the images have no labels.
    """
    chosen = (_labels(images) == label).nonzero().flatten()
    if not len(chosen):
        held = ", ".join(map(str, sorted(set(_labels(images).tolist()))))
        raise ImageError(f"{LEAVE_OUT}{label}: {images.name} has no class {label}; it has {held}.")
    return replace(images.select(chosen), name=f"{LEAVE_OUT}{label}", steps=(*images.steps, f"class {label} alone"))


def without(images: ImageSet, labels: list[int]) -> ImageSet:
    """Return the images of all other classes.

    Raises:
        ImageError: there are none, or the images have no labels.
    """
    chosen = (~torch.isin(_labels(images), torch.tensor(labels))).nonzero().flatten()
    if not len(chosen):
        raise ImageError(f"{LEAVE_OUT}: of {images.name} no class is left; leave fewer out.")
    step = f"without class {', '.join(map(str, labels))}"
    return replace(images.select(chosen), steps=(*images.steps, step))


def _labels(images: ImageSet) -> torch.Tensor:
    if images.labels is None:
        raise ImageError(
            f"{LEAVE_OUT}: {images.name} has no labels, so no class can be left out; give an .npz file with `labels`, "
            "or a set that has them (digits, fashion-mnist)."
        )
    return images.labels
