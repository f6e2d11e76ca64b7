"""What this package adds to oodkit."""

from oodkit import DetectorSpec, hookimpl

__all__ = ["oodkit_detectors"]

SEEN = {  # beside the training images: name -> options class, what they are told apart from
    "svd": ("RndSvdOptions", "themselves without their smallest singular values"),
    "dct": ("RndDctOptions", "themselves made of few cosines"),
    "gaussian-blur": ("RndGaussianBlurOptions", "themselves blurred"),
    "random": ("RndRandomOptions", "themselves with some values at random"),
}


@hookimpl
def oodkit_detectors() -> list[DetectorSpec]:
    """Return random network distillation with each of the four perturbations."""
    return [
        DetectorSpec(
            name=f"rnd-{perturbation}",
            target="oodkit_svd_rnd.detector:RandomNetworkDistillation",
            options=f"oodkit_svd_rnd.options:{options}",
            summary=f"how badly a network guesses a random one, which it learnt on images told from {seen}",
            model="none",
            aliases=("svd-rnd",) if perturbation == "svd" else (),
            source="Choi & Chung 2020, arXiv:1911.11943; Choi et al. 2021, arXiv:2106.07903, appendix B",
        )
        for perturbation, (options, seen) in SEEN.items()
    ]
