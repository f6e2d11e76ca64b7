"""Options of likelihood regret; the defaults of `lr-e` are those of the authors' code of the ROSE paper."""

from pydantic import Field

from oodkit import DetectorOptions

__all__ = ["EncoderRegretOptions", "LatentRegretOptions", "RegretOptions"]


class RegretOptions(DetectorOptions):
    """What both detectors have."""

    steps: int = Field(100, ge=0, description="Steps of Adam for each image.")
    samples: int = Field(20, ge=1, description="Importance samples of log p(x), before and after.")
    images_at_once: int | None = Field(
        None,
        ge=1,
        description="Images that are optimised together; by default a batch, or as many as have room for their "
        "copies of the encoder, with Adam's moments, in 1 GiB (8 GiB on a GPU).",
    )
    bfloat16: bool = Field(
        False,
        description="Take the decoder's part of each step in bfloat16: faster where the processor has such products "
        "(AMX, GPUs); log p(x) before and after stays as it is.",
    )


class EncoderRegretOptions(RegretOptions):
    """Regret over the encoder's weights: each image at once takes 16 bytes per weight (float32)."""

    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False, description="Step size of Adam.")
    weight_decay: float = Field(5e-5, ge=0, allow_inf_nan=False, description="L2 penalty on the encoder's weights.")


class LatentRegretOptions(RegretOptions):
    """Regret over the mean and the log-variance of q(z|x)."""

    learning_rate: float = Field(1e-2, gt=0, allow_inf_nan=False, description="Step size of Adam.")
