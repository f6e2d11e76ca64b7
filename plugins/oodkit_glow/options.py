"""Options of GLOW: a small one for two CPU cores, and the two of the paper."""

from pydantic import Field

from oodkit import ModelOptions

__all__ = ["GlowCifar10Options", "GlowFashionMnistOptions", "GlowOptions"]

BLOCKS = "Blocks (L): each begins with a squeeze, which halves height and width."
STEPS = "Steps of flow in each block (K): actnorm, invertible 1x1 convolution, affine coupling."
HIDDEN = "Channels inside each coupling's network."
MULTI_SCALE = "Let half of the channels leave the flow after each block but the last."
EPOCHS = "Passes over the training images."
WARMUP = "Epochs over which the learning rate rises from 0."


class GlowOptions(ModelOptions):
    """Architecture and training; the defaults train on two CPU cores in minutes."""

    blocks: int = Field(2, ge=1, description=BLOCKS)
    steps: int = Field(6, ge=1, description=STEPS)
    hidden: int = Field(64, ge=1, description=HIDDEN)
    multi_scale: bool = Field(False, description=MULTI_SCALE)
    dequantisation_seed: int = Field(
        0, ge=0, description="Seed of the one noise image that log p(x) adds to every image alike; training draws anew."
    )
    epochs: int = Field(15, ge=0, description=EPOCHS)
    optimizer: str = Field("adamax", pattern="^(adam|adamax)$", description="adam or adamax.")
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False, description="Step size of the optimizer.")
    warmup_epochs: float = Field(1.0, ge=0, description=WARMUP)


class GlowFashionMnistOptions(GlowOptions):
    """The paper's for Fashion-MNIST: 2x16 steps, 200 hidden channels, no split."""

    steps: int = Field(16, ge=1, description=STEPS)
    hidden: int = Field(200, ge=1, description=HIDDEN)
    epochs: int = Field(50, ge=0, description=EPOCHS)
    learning_rate: float = Field(5e-4, gt=0, allow_inf_nan=False, description="Step size of the optimizer.")
    warmup_epochs: float = Field(5.0, ge=0, description=WARMUP)


class GlowCifar10Options(GlowFashionMnistOptions):
    """The paper's for CIFAR-10: 3x8 steps, 400 hidden channels, split after each block but the last."""

    blocks: int = Field(3, ge=1, description=BLOCKS)
    steps: int = Field(8, ge=1, description=STEPS)
    hidden: int = Field(400, ge=1, description=HIDDEN)
    multi_scale: bool = Field(True, description=MULTI_SCALE)
    weight_decay: float = Field(5e-5, ge=0, allow_inf_nan=False, description="L2 penalty on the weights.")
