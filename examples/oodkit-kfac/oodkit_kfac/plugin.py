"""What this package adds to oodkit."""

from oodkit import CurvatureSpec, DetectorSpec, hookimpl

OODKIT_INTERFACE = "1.0"


@hookimpl
def oodkit_detectors() -> list[DetectorSpec]:
    """Return the reconstruction error."""
    return [
        DetectorSpec(
            name="reconstruction-error",
            target="oodkit_kfac.reconstruction:ReconstructionError",
            summary="−log p(x|z) at the mean of q(z|x), in nats",
            model="latent-variable",
        )
    ]


@hookimpl
def oodkit_curvatures() -> list[CurvatureSpec]:
    """Return KFAC; `rose-kfac` exists because of it."""
    return [
        CurvatureSpec(
            name="kfac",
            target="oodkit_kfac.kfac:Kfac",
            summary="A ⊗ B, a Kronecker product of two second moments",
            source="Martens & Grosse 2015, arXiv:1503.05671; convolutions: Grosse & Martens 2016, arXiv:1602.01407",
        )
    ]
