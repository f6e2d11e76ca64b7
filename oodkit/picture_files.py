"""Picture files: which there are in a folder or a `.zip`, and the bytes of each, up to a limit."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zipfile import ZipFile, ZipInfo

import torch
from torch import Tensor

from oodkit.errors import DataNotFoundError, ImageError

__all__ = ["SUFFIXES", "PictureFiles", "list_pictures", "open_pictures"]

SUFFIXES = frozenset(".png .jpg .jpeg .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .jp2".split())
MAX_FILE_BYTES = 200 * 2**20  # of one picture file, unpacked


@dataclass(frozen=True)
class PictureFiles:
    """Picture files by name, sorted, each read when its turn comes."""

    names: list[str]
    size: Callable[[int], int]  # in bytes
    read: Callable[[int], bytes]

    def labels(self) -> Tensor | None:
        """Return the number of each file's folder; None unless every file lies in one of several folders."""
        folders = [str(PurePosixPath(name).parent) for name in self.names]
        classes = {folder: i for i, folder in enumerate(sorted(set(folders)))}
        return torch.tensor([classes[f] for f in folders]) if len(classes) > 1 and "." not in classes else None


def open_pictures(path: Path | Sequence[Path], split: str, opened: ExitStack) -> PictureFiles:
    """Return the pictures of a folder, a `.zip`, one file or a list of files; `opened` closes what is to be closed.

    Raises:
        DataNotFoundError: a file of the list is not there, or the split is not.
        ImageError: no .zip, a damaged one, or one body under several names.
    """
    if not isinstance(path, Path):
        missing = next((p for p in path if not p.is_file()), None)
        if missing is not None:
            raise DataNotFoundError(f"there is no file {missing}; check the path.")
        return _of_paths([str(p) for p in path], path)
    if path.is_dir():
        names = list_pictures(path)
        return _of_split(_of_paths(names, [path / name for name in names]), split, path)
    if path.suffix.lower() != ".zip":
        return _of_paths([path.name], [path])
    try:
        archive = opened.enter_context(ZipFile(path))
    except Exception as error:  # untrusted bytes: zipfile raises nearly anything
        raise ImageError(f"{path}: not a .zip, or damaged ({error}); make or download it anew.") from error
    if sum(member.compress_size for member in archive.infolist()) > path.stat().st_size:
        raise ImageError(f"{path}: its files lie over each other, as in a zip bomb; pack them anew if they are yours.")
    members = sorted((m for m in archive.infolist() if _is_picture(m.filename)), key=lambda m: m.filename)
    files = PictureFiles(
        [m.filename for m in members], lambda i: members[i].file_size, lambda i: _read_member(archive, members[i])
    )
    return _of_split(files, split, path)


def list_pictures(folder: Path) -> list[str]:
    """Return the names of all pictures below `folder`, sorted, with forward slashes; follows no link to a folder."""
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if _is_picture(relative) and path.is_file():  # is_file: to open a pipe would wait for ever
                found.append(relative)
    return sorted(found)


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in path.parts)
    return not hidden and not name.endswith("/") and path.suffix.lower() in SUFFIXES


def _of_split(files: PictureFiles, split: str, source: Path) -> PictureFiles:
    # Only `split`'s files where the first folders are train and test: to mix them would be a leak.
    splits = {name.partition("/")[0] for name in files.names if "/" in name} & {"train", "test"}
    if not splits:
        return files
    if split not in splits:
        raise DataNotFoundError(f"{source}: holds {splits.pop()} but no {split}; give the path of the folder you mean.")
    chosen = [i for i, name in enumerate(files.names) if name.startswith(f"{split}/")]
    names = [files.names[i].partition("/")[2] for i in chosen]
    return PictureFiles(names, lambda i: files.size(chosen[i]), lambda i: files.read(chosen[i]))


def _of_paths(names: list[str], paths: Sequence[Path]) -> PictureFiles:
    return PictureFiles(names, lambda i: paths[i].stat().st_size, lambda i: _read_file(paths[i]))


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return _limited(file.read(MAX_FILE_BYTES + 1))


def _read_member(archive: ZipFile, member: ZipInfo) -> bytes:
    if member.file_size > MAX_FILE_BYTES:  # what the header says; what comes out is limited below
        raise ImageError(f"it is larger than {MAX_FILE_BYTES // 2**20} MiB")
    with archive.open(member) as file:
        return _limited(file.read(MAX_FILE_BYTES + 1))


def _limited(content: bytes) -> bytes:
    if len(content) > MAX_FILE_BYTES:
        raise ImageError(f"it is larger than {MAX_FILE_BYTES // 2**20} MiB")
    return content
