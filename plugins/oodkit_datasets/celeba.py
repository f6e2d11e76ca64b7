"""CelebA as its authors give it: a folder of JPEG files, and a text file that says which are for testing."""

from dataclasses import replace
from pathlib import Path

from oodkit import DataNotFoundError, DatasetRequest, ImageError, ImageSet, load_images

__all__ = ["read_celeba"]

PARTITION = "list_eval_partition.txt"
NUMBER = {"train": "0", "test": "2"}  # 1 is for validation


def read_celeba(folder: Path, request: DatasetRequest) -> ImageSet:
    """Return the split's pictures of `img_align_celeba`, squashed to a square as the paper's code does.

    Raises:
        DataNotFoundError: the file with the partition is not there.
        ImageError: that file names no picture of the split.
    """
    partition = folder.parent / PARTITION
    if not partition.is_file():
        raise DataNotFoundError(f"{folder} is there, but not {partition}, which says which pictures are for testing.")
    lines = (line.split() for line in partition.read_text(encoding="utf-8", errors="replace").splitlines())
    # Path(name).name: a name must not lead out of the folder
    names = [Path(words[0]).name for words in lines if len(words) == 2 and words[1] == NUMBER[request.split]]
    if not names:
        raise ImageError(f"{partition}: names no picture for split {request.split!r}; download it anew.")
    images = load_images(
        [folder / name for name in names],
        request.split,
        limit=request.count,
        seed=request.seed,
        image_shape=request.image_shape or (3, 32, 32),
        crop=False,
    )
    return replace(images, source=str(folder))
