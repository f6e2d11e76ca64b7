"""Options of likelihood regret; the defaults of `lr-e` are those of the authors' code of the ROSE paper."""

from pydantic import Field

from oodkit import DetectorOptions

__all__ = ["EncoderRegretOptions", "LatentRegretOptions", "RegretOptions"]


class RegretOptions(DetectorOptions):
    """What both detectors have."""

    steps: int = Field(100, ge=0, description="Steps of Adam for each image.")
    samples: int = Field(20, ge=1, description="Importance samples of log p(x), before and after.")
    images_at_once: int | None = Field(
        None, ge=1, description="Images that are optimised together; by default 16 on the CPU, 128 on a GPU."
    )


class EncoderRegretOptions(RegretOptions):
    """Regret over the encoder's weights: each image at once takes 16 bytes per weight (float32)."""

    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False, description="Step size of Adam.")
    weight_decay: float = Field(5e-5, ge=0, allow_inf_nan=False, description="L2 penalty on the encoder's weights.")


class LatentRegretOptions(RegretOptions):
    """Regret over the mean and the log-variance of q(z|x)."""

    learning_rate: float = Field(1e-2, gt=0, allow_inf_nan=False, description="Step size of Adam.")
