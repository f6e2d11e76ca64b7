"""`Options`: what a user may set. Each field's limits live in its type and its only documentation in `description`.

No torch here: `oodkit list` and `oodkit show` read options without it.
"""

import re
import types
from pathlib import Path
from typing import Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from oodkit.errors import OptionError

__all__ = [
    "MAX_SEED",
    "ClassifierOptions",
    "CurvatureOptions",
    "DampingOptions",
    "DensityOptions",
    "DetectorOptions",
    "ModelOptions",
    "Options",
]


MAX_SEED = 2**32 - 1  # what every generator takes, and seed and epoch together too


class Options(BaseModel):
    """Frozen and strict about names: an unknown option is an error, with near misses."""

    # pydantic before 2.10 warns of every field that begins with "model_"
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, protected_namespaces=())

    @classmethod
    def parse(cls, owner: str, values: dict[str, Any]) -> Self:  # Any: text of the command line, or Python values
        """Return the options of `owner` from `values`.

        Of a text, "a,b" becomes a list and "none" becomes None where the option takes one; a comma with a backslash
        before it belongs to a value.

        Raises:
            OptionError: an unknown option or a value outside its limits, with the field, the value and what is allowed.
        """
        try:
            return cls(**{name: cls._from_text(name, value) for name, value in values.items()})
        except ValidationError as error:
            raise OptionError(" ".join(cls._sentence(owner, dict(e)) for e in error.errors())) from None

    @classmethod
    def _from_text(cls, option: str, value: object) -> object:
        if not isinstance(value, str) or option not in cls.model_fields:
            return value
        annotation = cls.model_fields[option].annotation
        union = get_origin(annotation) in (Union, types.UnionType)
        takes = get_args(annotation) if union else (annotation,)
        if type(None) in takes and value.lower() == "none":
            return None
        if any(get_origin(kind) in (tuple, list) for kind in takes):
            return [part.strip().replace("\\,", ",") for part in re.split(r"(?<!\\),", value) if part.strip()]
        return value

    @classmethod
    def _sentence(cls, owner: str, error: dict[str, Any]) -> str:  # Any: pydantic's error dictionary
        field = str(error["loc"][0]) if error["loc"] else "options"
        if error["type"] == "extra_forbidden":
            from difflib import get_close_matches

            near = get_close_matches(field, cls.model_fields, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has: {', '.join(cls.model_fields)}."
            return f"{owner} has no option {field!r}; {hint}"
        message = error["msg"].removeprefix("Value error, ")
        reason = message[0].lower() + message[1:]
        described = cls.model_fields[field].description if field in cls.model_fields else None
        return f"{owner}.{field} = {error['input']!r}: {reason}." + (f" ({described})" if described else "")


class DetectorOptions(Options):
    """What every detector has."""

    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of all that the detector draws at random.")

    def named_files(self) -> tuple[Path, ...]:
        """Return the files that `fit` reads: by default every option that is a path, or a tuple of paths.

        A run folder knows a detector by what is in them, not by their names.
        """
        values = [getattr(self, name) for name in type(self).model_fields]
        listed = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
        return tuple(part for part in listed if isinstance(part, Path))


class DensityOptions(DetectorOptions):
    """What a detector has that scores by a density of a few numbers per image."""

    density: Literal["mahalanobis", "tails", "kde", "mixture"] = Field(
        "mahalanobis",
        description="Of the numbers, by logarithm where they are positive: mahalanobis, a Gaussian with a shrunk "
        "correlation; tails, their empirical tails, independent; kde, kernel estimates, independent; mixture, of "
        "Gaussians.",
    )
    shrinkage: float | None = Field(
        None,
        ge=0,
        le=1,
        description="mahalanobis: share of the identity in the correlation; 1 takes the numbers for independent; by "
        "default Ledoit and Wolf's.",
    )
    components: int = Field(
        16, ge=1, description="mixture: Gaussians, at most; fewer where images are few: each has 8 for each number."
    )


class CurvatureOptions(Options):
    """Options of a curvature approximation; empty, for one that has none."""


class DampingOptions(CurvatureOptions):
    """What a curvature that inverts F has; one with more to set adds its fields in a subclass."""

    damping: float = Field(
        1e-8, ge=0, allow_inf_nan=False, description="Added to every eigenvalue of F (the paper: 1e-8)."
    )
    relative_damping: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Added to every eigenvalue of F, times their mean."
    )


class ModelOptions(Options):
    """How any model is trained; a model adds its architecture and its own defaults in a subclass."""

    epochs: int = Field(100, ge=0, description="Passes over the training images.")
    batch_size: int = Field(64, ge=1, description="Images in a training step.")
    optimizer: str = Field("adam", pattern="^(adam|adamax)$", description="adam or adamax.")
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False, description="Step size of the optimizer.")
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False, description="L2 penalty on the weights.")
    decay_every: int = Field(
        0, ge=0, description="Multiply the learning rate by `decay` every so many epochs; 0: never."
    )
    decay: float = Field(
        0.5, gt=0, le=1, description="What the learning rate is multiplied by every `decay_every` epochs."
    )
    warmup_epochs: float = Field(0.0, ge=0, description="Epochs over which the learning rate rises from 0.")
    flips: bool = Field(False, description="Mirror each training image left to right, with probability 1/2.")


class ClassifierOptions(ModelOptions):
    """What every classifier has beside its training."""

    classes: int = Field(10, ge=2, description="Labels that it tells apart, numbered from 0.")
