"""What this package adds to oodkit."""

from oodkit import DetectorSpec, hookimpl

__all__ = ["oodkit_detectors"]

SEEN = {  # by the background model: name -> options class, what it is shown
    "random": ("RandomRatioOptions", "images of which some values are random"),
    "svd": ("SvdRatioOptions", "images without their smallest singular values"),
    "dct": ("DctRatioOptions", "images made of few cosines"),
    "gaussian-blur": ("GaussianBlurRatioOptions", "blurred images"),
}


@hookimpl
def oodkit_detectors() -> list[DetectorSpec]:
    """Return the likelihood ratio with each of the four perturbations."""
    return [
        DetectorSpec(
            name=f"lratio-{perturbation}",
            target="oodkit_likelihood_ratio.detector:LikelihoodRatio",
            options=f"oodkit_likelihood_ratio.options:{options}",
            model="density",
            summary=f"log p of a background model, trained on {shown}, − log p",
            source="Ren et al. 2019, arXiv:1906.02845, section 3; Choi et al. 2021, arXiv:2106.07903, appendix B",
        )
        for perturbation, (options, shown) in SEEN.items()
    ]
