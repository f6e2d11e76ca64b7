"""What this package adds to oodkit."""

from oodkit import DetectorSpec, hookimpl

__all__ = ["oodkit_detectors"]


@hookimpl
def oodkit_detectors() -> list[DetectorSpec]:
    """Return the two baselines that every other detector is to beat."""
    return [
        DetectorSpec(
            name="nll",
            target="oodkit_likelihood.detectors:Nll",
            options="oodkit_likelihood.options:NllOptions",
            summary="−log p(x), the best estimate that the model has (a VAE: 20 importance samples)",
            source="Burda et al. 2016, arXiv:1509.00519, eq. (8)",
        ),
        DetectorSpec(
            name="elbo",
            target="oodkit_likelihood.detectors:Elbo",
            summary="−log p(x) from one deterministic pass (a VAE: the ELBO at the mean of q(z|x))",
            source="Kingma & Welling 2014, arXiv:1312.6114",
        ),
    ]
