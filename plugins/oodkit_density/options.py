"""Options of the detectors of this package."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from oodkit import DensityOptions, DetectorOptions, OptionError, detector_files

__all__ = [
    "ComplexityOptions",
    "DoseOptions",
    "EnsembleOptions",
    "LikelihoodPathOptions",
    "StatisticsOptions",
    "TypicalityOptions",
    "WaicOptions",
]

FITTING = "Training images that the density is fitted to, at most."
LENGTHS = "Lengths of the image as a compressed file that join the model's statistics: png, jp2, jpeg."
STATISTICS = "Names of the model's statistics to look at; by default all."
Compressor = Literal["png", "jp2", "jpeg"]
MEMBER = re.compile(r"([\w-]+)(?:\[(.*)\])?")  # of an ensemble: name[option=value;option=value]


class StatisticsOptions(DensityOptions):
    """Which numbers, and which density of them; the defaults were chosen on in-distribution images alone."""

    density: Literal["mahalanobis", "tails", "kde", "mixture"] = Field(
        "mixture",
        description="Of the numbers, by logarithm where they are positive: mahalanobis, a Gaussian with a shrunk "
        "correlation; tails, their empirical tails, independent; kde, kernel estimates, independent; mixture, of "
        "Gaussians.",
    )
    statistics: tuple[str, ...] | None = Field(None, min_length=1, description=STATISTICS)
    lengths: tuple[Compressor, ...] = Field(("png", "jp2", "jpeg"), description=LENGTHS)
    fitting_images: int = Field(5000, ge=3, description=FITTING)


class DoseOptions(StatisticsOptions):
    """DoSE: a kernel estimate of each statistic."""

    density: Literal["mahalanobis", "tails", "kde", "mixture"] = Field("kde", description="kde, as the paper.")
    lengths: tuple[Compressor, ...] = Field((), description=LENGTHS)


class LikelihoodPathOptions(StatisticsOptions):
    """The likelihood path's three norms."""

    statistics: tuple[str, ...] | None = Field(
        ("residual", "mean_norm", "deviation_norm"), min_length=1, description="Names of the model's statistics."
    )
    density: Literal["mahalanobis", "tails", "kde", "mixture"] = Field(
        "tails", description="tails: as the paper's COPOD, but learnt from training images alone."
    )
    lengths: tuple[Compressor, ...] = Field((), description=LENGTHS)


class ComplexityOptions(DensityOptions):
    """Which compressors."""

    lengths: tuple[Compressor, ...] = Field(
        ("png", "jp2", "jpeg"), min_length=1, description="Compressors: png, jp2 (both without loss), jpeg."
    )
    fitting_images: int = Field(5000, ge=3, description=FITTING)


class TypicalityOptions(DetectorOptions):
    """How log p(x) and its mean are estimated."""

    samples: int = Field(20, ge=1, description="Importance samples, where the model's likelihood is sampled.")
    fitting_images: int = Field(5000, ge=1, description="Training images that give the mean, at most.")


class WaicOptions(DetectorOptions):
    """The ensemble."""

    members: int = Field(5, ge=2, description="Models, the given one among them.")
    models: tuple[Path, ...] | None = Field(
        None,
        min_length=1,
        description="Saved models of the same make, trained from other seeds: the further members, instead of training "
        "them; `members` and `epochs` then play no part.",
    )
    epochs: int | None = Field(None, ge=0, description="Passes of each further model's training; by default its own.")
    samples: int = Field(20, ge=1, description="Importance samples, where the model's likelihood is sampled.")


class EnsembleOptions(DetectorOptions):
    """The members, and how their p-values are joined."""

    members: tuple[str, ...] = Field(
        ("rose-ekfac", "statistics-density", "complexity"),
        min_length=1,
        description="Detectors by name, with options in brackets: rose-ekfac[relative_damping=0.1;seed=1].",
    )
    combine: Literal["fisher", "cauchy", "min"] = Field(
        "fisher",
        description="fisher: −2 Σ log p; cauchy: Σ tan((1/2 − p)π), which bears dependence; min: the smallest p.",
    )
    calibration_images: int = Field(
        1000, ge=3, description="Training images kept from the members for their p-values: at most, and a fifth of all."
    )

    def named(self) -> list[tuple[str, dict[str, Any]]]:  # Any: an option's value
        """Return each member's name and options.

        Raises:
            OptionError: a text that names no detector, or an ensemble.
        """
        named = []
        for text in self.members:
            match = MEMBER.fullmatch(text)
            if match is None or match[1] == "ensemble":
                raise OptionError(
                    f"ensemble.members: {text!r} is no other detector; write its name, with options in brackets: "
                    "rose-ekfac[relative_damping=0.1;seed=1]."
                )
            pairs = [pair.partition("=") for pair in (match[2] or "").split(";") if pair]
            named.append((match[1], {"seed": self.seed, **{key.strip(): value.strip() for key, _, value in pairs}}))
        return named

    def named_files(self) -> tuple[Path, ...]:
        """Return the files of all members."""
        return tuple(file for name, options in self.named() for file in detector_files(name, **options))
