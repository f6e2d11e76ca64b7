"""Fetches a named set through torchvision, which knows the addresses and the checksums."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from oodkit import DataNotFoundError

__all__ = ["by_https", "fetch"]

# Where the address that torchvision knows answers to http only: the same files, with the same checksums.
FASHION_MNIST = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"


def by_https(made_by: type[Any]) -> type[Any]:
    """Return a torchvision data set's class, of the same name, whose addresses are all https."""
    changes: dict[str, Any] = {}
    if mirrors := getattr(made_by, "mirrors", None):
        changes["mirrors"] = [m for m in mirrors if m.startswith("https:")] or [_secure(m) for m in mirrors]
    if splits := getattr(made_by, "split_list", None):
        changes["split_list"] = {split: [_secure(entry[0]), *entry[1:]] for split, entry in splits.items()}
    return type(made_by.__name__, (made_by,), changes)


def _secure(address: str) -> str:
    return FASHION_MNIST if "fashion-mnist" in address else address.replace("http://", "https://", 1)


def fetch(name: str, torchvision_class: str, split: str, folder: Path) -> None:
    """Put the files of a set into `folder`, in torchvision's own layout.

    Raises:
        DataNotFoundError: torchvision cannot be used here, or the download failed.
    """
    try:
        # Imported here only: it is slow, and where it does not match the installed torch it fails at import.
        from torchvision import datasets
        from torchvision.datasets.utils import download_and_extract_archive
    except Exception as error:  # a torchvision that does not match torch raises RuntimeError, AttributeError, …
        raise DataNotFoundError(
            f"{name}: it cannot be downloaded, because torchvision does not work here ({_line(error)}); "
            "install the torchvision that matches your torch, or put the files into a folder and set "
            "OODKIT_DATA to it."
        ) from error
    made_by = by_https(getattr(datasets, torchvision_class))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(sys.stderr):  # torchvision prints; stdout is for results
            if hasattr(made_by, "tgz_md5"):  # CIFAR: the class would unpickle what it has fetched
                download_and_extract_archive(made_by.url, str(folder), filename=made_by.filename, md5=made_by.tgz_md5)
            else:
                made_by(str(folder), download=True, **_split_argument(torchvision_class, split))
    except Exception as error:  # urllib, tarfile, zipfile, gdown: nearly anything
        raise DataNotFoundError(
            f"{name}: the download to {folder} failed ({_line(error)}); try again, or put the files there."
        ) from error


def _split_argument(torchvision_class: str, split: str) -> dict[str, object]:
    match torchvision_class:
        case "Omniglot":
            return {"background": split == "train"}
        case "SVHN" | "CelebA":
            return {"split": split}
        case _:
            return {"train": split == "train"}


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
