"""What this package adds to oodkit: classifiers, on which ROSE runs as on a density."""

from oodkit import ModelSpec, hookimpl

__all__ = ["oodkit_models"]


@hookimpl
def oodkit_models() -> list[ModelSpec]:
    """Return the classifier; its option `network` says which."""
    return [
        ModelSpec(
            name="classifier",
            target="oodkit_classifier.model:ImageClassifier",
            options="oodkit_classifier.options:NetworkOptions",
            summary="p(y|x) by a basic CNN, a VGG or a ResNet-18; trained with labels",
            kind="classifier",
            source="Choi et al. 2021, arXiv:2106.07903, appendix D",
        )
    ]
