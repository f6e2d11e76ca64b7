"""Fetches a named set through torchvision, which knows the addresses and the checksums."""

import os
import sys
import tarfile
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError

from oodkit import DataNotFoundError

__all__ = ["by_https", "fetch"]

# Where the address that torchvision knows answers to http only: the same files, with the same checksums.
SILENCE = 60.0  # seconds after which a server that says nothing is given up; torchvision would wait for ever
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
    """Put the files of a set into `folder`, in torchvision's own layout, once they are whole and their MD5 is right.

    Raises:
        DataNotFoundError: torchvision cannot be used here, or the download failed.
    """
    try:
        # Imported here only: it is slow, and where it does not match the installed torch it fails at import.
        from torchvision import datasets
        from torchvision.datasets.utils import download_url
    except Exception as error:  # a torchvision that does not match torch raises RuntimeError, AttributeError, …
        raise DataNotFoundError(
            f"{name}: it cannot be downloaded, because torchvision does not work here ({_line(error)}); "
            "install the torchvision that matches your torch, or put the files into a folder and set "
            "OODKIT_DATA to it."
        ) from error
    made_by = by_https(getattr(datasets, torchvision_class))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Aside first: torchvision leaves a file that is damaged where it was to be, and the next run would read it.
        # It prints, too, and stdout is for results.
        with TemporaryDirectory(prefix=".download-", dir=folder) as new, redirect_stdout(sys.stderr), _https_only():
            if hasattr(made_by, "tgz_md5"):  # CIFAR: the class would unpickle what it has fetched
                download_url(made_by.url, new, filename=made_by.filename, md5=made_by.tgz_md5)
                with tarfile.open(Path(new, made_by.filename)) as archive:
                    archive.extraction_filter = getattr(tarfile, "data_filter", None)  # from Python 3.11.4 on
                    archive.extractall(new)
            else:
                made_by(new, download=True, **_split_argument(torchvision_class, split))
            _move(Path(new), folder)
    except Exception as error:  # urllib, tarfile, zipfile, gdown: nearly anything
        raise DataNotFoundError(
            f"{name}: the download to {folder} failed ({_line(error)}); try again, or put the files there."
        ) from error


class _HttpsOnly(urllib.request.BaseHandler):
    def default_open(self, request: urllib.request.Request) -> None:  # comes before the handlers that would open it
        if request.type != "https":
            raise URLError(f"{request.full_url} is not https")
        request.timeout = SILENCE


@contextmanager
def _https_only() -> Generator[None]:
    """Let urllib open nothing but https meanwhile: torchvision follows redirects, and tries http where https fails."""
    before = urllib.request._opener  # there is no public way to ask
    urllib.request.install_opener(urllib.request.build_opener(_HttpsOnly))
    try:
        yield
    finally:
        urllib.request.install_opener(before)


def _move(source: Path, target: Path) -> None:
    if source.is_dir() and target.is_dir():
        for entry in source.iterdir():
            _move(entry, target / entry.name)
    else:
        os.replace(source, target)


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
