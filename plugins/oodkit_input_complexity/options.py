"""Options of input complexity: the same for every compressor."""

from typing import Literal

from pydantic import Field

from oodkit import DetectorOptions

__all__ = ["InputComplexityOptions"]


class InputComplexityOptions(DetectorOptions):
    """How likelihood and length are brought together."""

    units: Literal["bits", "paper"] = Field(
        "bits",
        description="bits: both in bits; paper: the likelihood in nats less the length in bits, as the paper has it.",
    )
    samples: int = Field(20, ge=1, description="Importance samples, where the model's likelihood is sampled.")
