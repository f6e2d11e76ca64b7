"""`RunFolder`: a run folder as a database. One process at a time; a killed run loses nothing that was finished.

    results.jsonl                  one row per finished cell, appended and flushed to the disk
    damaged.jsonl                  rows of it that could not be read
    missing.json                   OOD sets that were left out, and why
    scores/<hash>.safetensors      the raw scores of one fitted detector on one image set
    models/<hash>.safetensors      trained models, and <hash>.checkpoint while one trains
    detectors/<hash>.safetensors   fitted detectors, and <hash>/ for checkpoints while one is fitted

Each hash is of all that determines the thing, so that what is found is what would be made again.
"""

import json
import os
import shutil
import socket
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from filelock import FileLock, Timeout
from torch import Tensor

from oodkit.artifact import read_artifact, write_artifact, write_atomically
from oodkit.bench.cell import Cell
from oodkit.bench.rows import as_row, read_cells
from oodkit.errors import ArtifactError, RunFolderError

__all__ = ["RunFolder", "Scores", "read_missing", "read_scores"]

RESULTS, DAMAGED, MISSING = "results.jsonl", "damaged.jsonl", "missing.json"
OWNER, LOCK = ".owner", ".lock"

Made = TypeVar("Made")


@dataclass(frozen=True)
class Scores:
    """The raw scores of one image set, (N,), and how fast they were made.

    `lowest` and `highest` are the images with the extreme scores, uint8 (n, C, H, W), the extreme one first; beside
    them their reconstructions, where the detector's model has them.

    `batch_spread`, of ID images: a few of them are scored once more, each alone; the greatest change of a score, in
    standard deviations of `values`. 1e6 stands for more, and for infinite. None: it was not measured.
    """

    values: Tensor
    images_per_second: float
    device: str
    lowest: Tensor
    highest: Tensor
    lowest_reconstructed: Tensor | None = None
    highest_reconstructed: Tensor | None = None
    batch_spread: float | None = None


def read_missing(folder: Path) -> dict[str, str]:
    """Return the sets that a run folder lacks, and why; empty where its record cannot be read."""
    if not (folder / MISSING).is_file():  # a pipe: to open it would wait for ever
        return {}
    try:
        missing = json.loads((folder / MISSING).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {_text(name): _text(why) for name, why in missing.items()} if isinstance(missing, dict) else {}


def _text(value: object) -> str:
    """Return a text that every file can hold: JSON's may have halves of a letter."""
    return str(value).encode(errors="replace").decode()


def _as_lines(rows: Iterable[bytes]) -> bytes:
    return b"".join(row + b"\n" for row in rows)


def read_scores(folder: Path, key: str) -> Scores | None:
    """Return a run folder's scores; None where there are none, or, with a warning, where they are damaged."""

    def read(path: Path) -> Scores:
        header, tensors = read_artifact(path, "scores")
        try:
            return Scores(
                tensors["scores"],
                header["images_per_second"],
                header["device"],
                tensors["lowest"],
                tensors["highest"],
                tensors.get("lowest_reconstructed"),
                tensors.get("highest_reconstructed"),
                header.get("batch_spread"),
            )
        except KeyError as error:
            raise ArtifactError(f"{path}: {error} is missing.") from error

    return RunFolder.read(folder / "scores" / f"{key}.safetensors", read)


class RunFolder:
    """An open run folder; use it as a context manager.

    Args:
        path: the folder; it is made where it does not exist.
        wait: whether to wait for a process that has it; else the folder is refused.
    """

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        self.path = path
        self._wait = wait
        self._lock = FileLock(path / LOCK)
        self._cells: dict[str, Cell] = {}

    def __enter__(self) -> Self:
        """Take the folder and read its rows.

        Raises:
            RunFolderError: it cannot be made, read or written, a file of it is none, or another process has it.
        """
        try:
            for name in ("scores", "models", "detectors"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            self._refuse_what_is_no_file()
            self._acquire()
        except OSError as error:
            raise RunFolderError(
                f"cannot write the run folder {self.path}: {error.strerror or error}; choose another --run-folder."
            ) from error
        try:
            self._write_owner()
            self._remove_unfinished()
            self._read_cells()
        except OSError as error:
            self._lock.release()
            raise RunFolderError(f"cannot read {error.filename or self.path}: {error.strerror or error}.") from error
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._owner_file.unlink(missing_ok=True)
        self._lock.release()

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            if not self._wait:
                raise RunFolderError(
                    f"{self.path} is in use by {self._owner()}; use --wait, or choose another --run-folder."
                ) from None
            warnings.warn(f"{self.path} is in use by {self._owner()}; waiting for it.", stacklevel=3)
            self._lock.acquire()

    def _refuse_what_is_no_file(self) -> None:
        for name in (RESULTS, DAMAGED, MISSING, OWNER, LOCK):
            path = self.path / name
            if path.exists() and not path.is_file():  # a pipe, perhaps: to open it would wait for ever
                raise RunFolderError(f"{path} is no file; move it away, or choose another --run-folder.")

    def _remove_unfinished(self) -> None:
        # What `write_atomically` had not yet renamed at a kill.
        left = [path for name in ("scores", "models", "detectors") for path in (self.path / name).rglob(".*")]
        left += [path for name in (RESULTS, DAMAGED, MISSING) for path in self.path.glob(f".{name}.*")]
        for path in left:
            if path.is_file():
                path.unlink(missing_ok=True)

    # --- rows

    def cell(self, key: str) -> Cell | None:
        """Return the finished cell of this hash."""
        return self._cells.get(key)

    def append(self, cell: Cell) -> None:
        """Add a finished cell; when this returns, the row is on the disk.

        Raises:
            RunFolderError: no space, or no permission.
        """
        line = as_row(cell)
        try:
            with self._results.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._cannot_write(self._results, error) from error
        self._cells[cell.key] = cell

    def _read_cells(self) -> None:
        if not self._results.exists():
            return
        content = self._results.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # a run was killed while it wrote: that cell is made again
            with self._results.open("r+b") as file:
                file.truncate(whole)
        cells, damaged = read_cells(content[:whole])
        self._cells = {cell.key: cell for cell in cells}
        if damaged:
            warnings.warn(
                f"{self._results}: {len(damaged)} rows cannot be read; they go to {DAMAGED}, and their cells are made "
                "again.",
                stacklevel=2,
            )
            self._set_aside(damaged, content[:whole].splitlines())

    def _set_aside(self, damaged: list[bytes], rows: list[bytes]) -> None:
        """Move rows to a file of their own, so that the next run need not name them again.

        A kill in between leaves them in both files, and the next run moves them; a reader has the old file or the new.

        Raises:
            RunFolderError: no space, or no permission.
        """
        file, gone = self.path / DAMAGED, set(damaged)
        known = file.read_bytes().splitlines() if file.exists() else []
        aside = dict.fromkeys([*known, *damaged])
        left = [row for row in rows if row not in gone]
        self.write(file, partial(write_atomically, data=_as_lines(aside)))
        self.write(self._results, partial(write_atomically, data=_as_lines(left)))

    def note_missing(self, sets: dict[str, str], present: Iterable[str]) -> None:
        """Keep why sets are missing; forget it of those that are `present`.

        Raises:
            RunFolderError: no space, or no permission.
        """
        file = self.path / MISSING
        known = read_missing(self.path)
        kept = {name: why for name, why in known.items() if name not in set(present)} | sets
        if kept != known:
            self.write(file, lambda path: write_atomically(path, json.dumps(kept, indent=2).encode()))

    # --- files

    def scores(self, key: str) -> Scores | None:
        """Return the stored scores; None where there are none, or, with a warning, where they are damaged."""
        return read_scores(self.path, key)

    def write_scores(self, key: str, scores: Scores, **about: Any) -> None:  # Any: what JSON can hold
        """Keep scores; `about` says in the file's header what they are of.

        Raises:
            RunFolderError: no space, or no permission.
        """
        header = {"images_per_second": scores.images_per_second, "device": scores.device, **about}
        if scores.batch_spread is not None:
            header["batch_spread"] = scores.batch_spread
        tensors = {"scores": scores.values, "lowest": scores.lowest, "highest": scores.highest}
        for name in ("lowest_reconstructed", "highest_reconstructed"):
            if (images := getattr(scores, name)) is not None:
                tensors[name] = images
        path = self.path / "scores" / f"{key}.safetensors"
        self.write(path, lambda path: write_artifact(path, "scores", header, tensors))

    def model_file(self, key: str) -> Path:
        """Return where a trained model is kept; its checkpoint ends in .checkpoint."""
        return self.path / "models" / f"{key}.safetensors"

    def detector_file(self, key: str) -> Path:
        """Return where a fitted detector is kept."""
        return self.path / "detectors" / f"{key}.safetensors"

    def work_folder(self, key: str) -> Path:
        """Return a folder for the checkpoints of one detector's fit; `drop_work_folder` removes it.

        Raises:
            RunFolderError: no space, or no permission.
        """
        folder = self.path / "detectors" / key
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise self._cannot_write(folder, error) from error
        return folder

    def drop_work_folder(self, key: str) -> None:
        """Remove what `work_folder` gave."""
        shutil.rmtree(self.path / "detectors" / key, ignore_errors=True)

    @staticmethod
    def read(path: Path, load: Callable[[Path], Made]) -> Made | None:
        """Return `load(path)`; None where there is no file, or, with a warning, where it is damaged."""
        if not path.exists():
            return None
        try:
            return load(path)
        except ArtifactError as error:
            warnings.warn(f"{error} It is made again now.", stacklevel=2)
            return None

    def write(self, path: Path, save: Callable[[Path], None]) -> None:
        """Call `save(path)`.

        Raises:
            RunFolderError: no space, or no permission.
        """
        try:
            save(path)
        except ArtifactError as error:
            raise RunFolderError(str(error)) from error

    # --- the lock

    @property
    def _results(self) -> Path:
        return self.path / RESULTS

    @property
    def _owner_file(self) -> Path:
        # Beside the lock, not in it: whoever asks for a lock empties its file.
        return self.path / OWNER

    def _write_owner(self) -> None:
        try:
            self._owner_file.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        except OSError as error:
            raise self._cannot_write(self._owner_file, error) from error

    def _owner(self) -> str:
        try:
            return self._owner_file.read_text().strip() or "another process"
        except OSError:
            return "another process"

    @staticmethod
    def _cannot_write(path: Path, error: OSError) -> RunFolderError:
        return RunFolderError(
            f"cannot write {path}: {error.strerror or error}; free space there, or choose another --run-folder."
        )
