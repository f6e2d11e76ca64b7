"""`Trouble`: why a cell could not be made, in a form that travels between processes."""

import traceback
from dataclasses import dataclass
from typing import Literal, Self

from oodkit.errors import OodkitError, OptionError, PluginError, RunFolderError

__all__ = ["Trouble"]


@dataclass(frozen=True)
class Trouble:
    """Why a cell could not be made.

    Attributes:
        kind: "folder": no further cell could be kept; "unsuited": the detector cannot use the model; "user": what the
            user can mend; "bug": anything else.
        reason: one sentence.
        trace: of a bug; else empty.
    """

    kind: Literal["folder", "unsuited", "user", "bug"]
    reason: str
    trace: str

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Return the trouble that an error is."""
        match error:
            case RunFolderError():
                return cls("folder", str(error), "")
            case PluginError() | OptionError():
                return cls("unsuited", str(error), "")
            case OodkitError():
                return cls("user", str(error), "")
        trace = "".join(traceback.format_exception(error))
        return cls("bug", f"{type(error).__name__}: {error}", trace)
