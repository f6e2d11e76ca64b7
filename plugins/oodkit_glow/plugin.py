"""What this package adds to oodkit: GLOW, in three sizes."""

from oodkit import ModelSpec, hookimpl

__all__ = ["oodkit_models"]

SIZES = {  # name -> options class, what it is
    "glow": ("GlowOptions", "2x6 steps, 64 hidden channels: minutes on two CPU cores"),
    "glow-fashion-mnist": ("GlowFashionMnistOptions", "the paper's for Fashion-MNIST, 2x16 steps, 200 hidden channels"),
    "glow-cifar10": ("GlowCifar10Options", "the paper's for CIFAR-10, 3x8 steps, 400 hidden channels"),
}


@hookimpl
def oodkit_models() -> list[ModelSpec]:
    """Return the small GLOW and the paper's two."""
    return [
        ModelSpec(
            name=name,
            target="oodkit_glow.model:Glow",
            options=f"oodkit_glow.options:{options}",
            summary=f"flow with invertible 1x1 convolutions; {summary}",
            source="Kingma & Dhariwal 2018, arXiv:1807.03039; sizes: Choi et al. 2021, arXiv:2106.07903, section 5",
        )
        for name, (options, summary) in SIZES.items()
    ]
