"""Everything that oodkit raises for a reason the user can mend.

The command line prints such an error as one sentence and exits with 2; anything else is our bug and keeps its
traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "ArtifactError",
    "DataNotFoundError",
    "DeviceError",
    "ImageError",
    "NotFittedError",
    "OodkitError",
    "OptionError",
    "PluginError",
    "RunFolderError",
    "TrainingError",
    "UnknownNameError",
    "in_one_line",
]


def in_one_line(text: str) -> str:
    """Return a text that a file or its name is part of, with what breaks a line or controls a terminal written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class OodkitError(Exception):
    """Base of all of oodkit's errors; its text says what happened and what to do next."""


class ImageError(OodkitError):
    """Images of the wrong dtype, shape or number, or a picture file that cannot be read."""


class DataNotFoundError(OodkitError):
    """A data set whose files are not on this machine."""


class OptionError(OodkitError):
    """An option that does not exist or whose value is not allowed."""


class UnknownNameError(OodkitError):
    """A detector, model, data set or curvature that no installed package registers."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> "UnknownNameError":
        """Return the error for `name`, with near misses or, where none is near, all that exists."""
        known, name = sorted(known), str(name)  # a program may have given anything
        near = get_close_matches(name, known, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}."
        return cls(f"no {kind} is called {name!r}; {hint} `oodkit list` shows all.")


class PluginError(OodkitError):
    """A plugin that is broken, or that asks for something its kind cannot have."""


class ArtifactError(OodkitError):
    """A saved model or detector that is damaged, of another kind, or made by a plugin that is missing."""


class NotFittedError(OodkitError):
    """A detector was asked to score before `fit` or `load_detector`."""


class DeviceError(OodkitError):
    """A device that this machine does not have, or whose memory does not suffice."""


class TrainingError(OodkitError):
    """Training that cannot go on: the loss is no longer finite, or weights are NaN."""


class RunFolderError(OodkitError):
    """A run folder that is in use, cannot be written, or is none."""
