"""How an image is called on the command line: by its file, within a folder or .zip, or by its number in an array."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oodkit.images import ImageSet

__all__ = ["is_picture", "path_of"]


def is_picture(source: str) -> bool:
    """Return whether a source is one picture, and no file of several."""
    from oodkit.picture_files import SUFFIXES

    path = Path(os.path.expanduser(source))
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def path_of(source: str, images: "ImageSet", index: int) -> str | None:
    """Return the path of an image that was loaded from `source`; None where its place is all that tells it apart."""
    if is_picture(source):
        return source
    return f"{source}/{images.names[index]}" if images.names else None
