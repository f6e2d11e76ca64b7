"""Options of the likelihood baselines."""

from pydantic import Field

from oodkit import DetectorOptions

__all__ = ["NllOptions"]


class NllOptions(DetectorOptions):
    """How log p(x) is estimated."""

    samples: int = Field(20, ge=1, description="Importance samples, where the model's likelihood is sampled.")
