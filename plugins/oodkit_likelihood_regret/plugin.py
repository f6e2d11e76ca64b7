"""What this package adds to oodkit: likelihood regret over the encoder, and over q(z|x) itself."""

from oodkit import DetectorSpec, hookimpl

__all__ = ["oodkit_detectors"]

PAPER = "Xiao et al. 2020, arXiv:2003.02977"


@hookimpl
def oodkit_detectors() -> list[DetectorSpec]:
    """Return LR(E) and LR(Z)."""
    return [
        DetectorSpec(
            name="lr-e",
            target="oodkit_likelihood_regret.detectors:EncoderRegret",
            options="oodkit_likelihood_regret.options:EncoderRegretOptions",
            summary="how much log p(x) gains when the encoder is fitted to the one image",
            model="latent-variable",
            source=f"{PAPER}, eq. (6)",
        ),
        DetectorSpec(
            name="lr-z",
            target="oodkit_likelihood_regret.detectors:LatentRegret",
            options="oodkit_likelihood_regret.options:LatentRegretOptions",
            summary="how much log p(x) gains when q(z|x) is fitted to the one image",
            model="latent-variable",
            source=f"{PAPER}, section 4",
        ),
    ]
