"""What this package adds to oodkit: ROSE, other detectors by gradients, and four forms of the Fisher information."""

from oodkit import CurvatureSpec, DetectorSpec, hookimpl

__all__ = ["oodkit_curvatures", "oodkit_detectors"]

PAPER = "Choi et al. 2021, arXiv:2106.07903"


@hookimpl
def oodkit_detectors() -> list[DetectorSpec]:
    """Return the detectors; the registry offers all but the last over every registered curvature."""
    return [
        DetectorSpec(
            name="rose",
            target="oodkit_rose.detector:Rose",
            options="oodkit_rose.options:RoseOptions",
            summary="how large an update of the model one image asks for, sᵀ F⁻¹ s",
            over="curvature",
            default_curvature="ekfac",
            source=f"{PAPER}, eqs. (5), (10), (11) and algorithm 2",
        ),
        DetectorSpec(
            name="rose-plus",
            target="oodkit_rose.plus:RosePlus",
            options="oodkit_rose.options:RosePlusOptions",
            summary="density of ROSE's layers, of the model's statistics and of the image's lengths as files",
            model="density",
            over="curvature",
            default_curvature="ekfac",
            source=f"oodkit; the layers: {PAPER}, eq. (5)",
        ),
        DetectorSpec(
            name="score-test",
            target="oodkit_rose.score_test:ScoreTest",
            options="oodkit_rose.options:ScoreTestOptions",
            summary="p-values of the gradient and of the likelihood, joined by Fisher's method",
            model="density",
            over="curvature",
            default_curvature="diag",
            source="Bergamin et al. 2022, arXiv:2203.01097",
        ),
        DetectorSpec(
            name="gradient-norm-density",
            target="oodkit_rose.gradient_norm:GradientNormDensity",
            options="oodkit_rose.options:GradientNormOptions",
            summary="density of log ‖∇ log p(x)‖² of each layer",
            source="Dauncey et al. 2024, arXiv:2403.01485",
        ),
    ]


@hookimpl
def oodkit_curvatures() -> list[CurvatureSpec]:
    """Return EKFAC, DIAG, the exact Fisher of small layers, and the identity."""
    return [
        CurvatureSpec(
            name="ekfac",
            target="oodkit_rose.ekfac:Ekfac",
            options="oodkit_rose.ekfac_options:EkfacOptions",
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
