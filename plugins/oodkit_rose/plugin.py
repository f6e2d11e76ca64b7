"""What this package adds to oodkit: ROSE, and four forms of the Fisher information."""

from oodkit import CurvatureSpec, DetectorSpec, hookimpl

__all__ = ["oodkit_curvatures", "oodkit_detectors"]

PAPER = "Choi et al. 2021, arXiv:2106.07903"


@hookimpl
def oodkit_detectors() -> list[DetectorSpec]:
    """Return ROSE; the registry offers it over every registered curvature."""
    return [
        DetectorSpec(
            name="rose",
            target="oodkit_rose.detector:Rose",
            options="oodkit_rose.options:RoseOptions",
            summary="how large an update of the model one image asks for, sᵀ F⁻¹ s",
            over="curvature",
            source=f"{PAPER}, eqs. (5), (10), (11) and algorithm 2",
        )
    ]


@hookimpl
def oodkit_curvatures() -> list[CurvatureSpec]:
    """Return EKFAC, DIAG, the exact Fisher of small layers, and the identity."""
    return [
        CurvatureSpec(
            name="ekfac",
            target="oodkit_rose.ekfac:Ekfac",
            summary="Kronecker eigenbasis with corrected eigenvalues",
            source=f"{PAPER}, eqs. (7)–(9), algorithm 1; George et al. 2018, arXiv:1806.03884",
        ),
        CurvatureSpec(
            name="diag",
            target="oodkit_rose.diag:Diag",
            summary="the diagonal, E[s²]",
            source=f"{PAPER}, eq. (6)",
        ),
        CurvatureSpec(
            name="full",
            target="oodkit_rose.full:Full",
            options="oodkit_rose.full_options:FullOptions",
            summary="E[s sᵀ] itself, for layers of a few thousand weights",
            source=f"{PAPER}, eq. (5)",
        ),
        CurvatureSpec(
            name="identity",
            target="oodkit_rose.identity:Identity",
            options="oodkit:CurvatureOptions",
            summary="no curvature: the squared gradient norm",
        ),
    ]
