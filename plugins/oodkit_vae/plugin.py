"""What this package adds to oodkit."""

from oodkit import ModelSpec, hookimpl

__all__ = ["oodkit_models"]


@hookimpl
def oodkit_models() -> list[ModelSpec]:
    """Return the convolutional VAE."""
    return [
        ModelSpec(
            name="vae",
            target="oodkit_vae.model:Vae",
            options="oodkit_vae.options:VaeOptions",
            summary="convolutional VAE with a 256-way categorical likelihood per sub-pixel",
            kind="latent-variable",
            source="Choi et al. 2021, arXiv:2106.07903, section 5; Xiao et al. 2020, arXiv:2003.02977",
        )
    ]
