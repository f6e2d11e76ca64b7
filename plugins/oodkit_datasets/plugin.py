"""Hooks: the data sets that come with oodkit."""

from oodkit import DatasetSpec, hookimpl

__all__ = ["oodkit_datasets"]

EMBEDDED = [
    DatasetSpec(
        name="digits",
        target="oodkit_datasets.embedded:digits",
        summary="handwritten digits, 8x8, grey; come with scikit-learn",
        embedded=True,
        # The paper's 100 epochs are for 60,000 images; a mirrored digit is none.
        recipe={"epochs": 8, "flips": False},
        source="UCI optical recognition of handwritten digits",
    ),
    DatasetSpec(
        name="photos",
        target="oodkit_datasets.embedded:photos",
        summary="random patches of two photographs, colour; come with scikit-learn",
        embedded=True,
    ),
]

GENERATED = [
    DatasetSpec(
        name="noise",
        target="oodkit_datasets.generated:noise",
        summary="uniform 0..255 for each pixel and channel",
        embedded=True,
        source="Choi et al. 2021, arXiv:2106.07903",
    ),
    DatasetSpec(
        name="constant",
        target="oodkit_datasets.generated:constant",
        summary="one uniform value for each image and channel",
        embedded=True,
        source="Choi et al. 2021, arXiv:2106.07903",
    ),
]

CONTROLS = ("mirrored", "jpeg")  # what a detector finds there is not the subject: run where they are asked for

DERIVED = [
    DatasetSpec(
        name=name,
        target=f"oodkit_datasets.derived:{name}",
        summary=f"the in-distribution test images, {what}",
        splits=("test",),
        embedded=name not in CONTROLS,
        derived=True,
    )
    for name, what in (
        ("inverted", "each value x as 255 - x"),
        ("rotated", "turned by 90 degrees"),
        ("flipped", "upside down"),
        ("dimmed", "at 0.3 of their brightness: a set on which the likelihood fails"),
        ("mirrored", "left and right exchanged"),
        ("jpeg", "after JPEG compression: a control, for OOD sets that come as JPEG files"),
    )
]

NAMED = [
    DatasetSpec(
        name=name,
        target=f"oodkit_datasets.named:{name.replace('-', '_')}",
        summary=summary,
        recipe={"classes": 100} if name == "cifar100" else {},
        source=source,
    )
    for name, summary, source in (
        ("fashion-mnist", "articles of clothing, 28x28, grey", "Xiao et al. 2017, arXiv:1708.07747"),
        ("mnist", "handwritten digits, 28x28, grey", "LeCun et al. 1998"),
        ("kmnist", "cursive Japanese characters, 28x28, grey", "Clanuwat et al. 2018, arXiv:1812.01718"),
        ("notmnist", "letters A to J in many typefaces, 28x28, grey", "Bulatov 2011"),
        ("omniglot", "characters of 50 alphabets, 105x105, black on white", "Lake et al. 2015"),
        ("cifar10", "objects of 10 classes, 32x32, colour", "Krizhevsky 2009"),
        ("cifar100", "objects of 100 classes, 32x32, colour", "Krizhevsky 2009"),
        ("svhn", "house numbers, 32x32, colour", "Netzer et al. 2011"),
        ("celeba", "faces, 178x218, colour", "Liu et al. 2015, arXiv:1411.7766"),
        ("lsun", "scenes, colour", "Yu et al. 2015, arXiv:1506.03365"),
        ("rendered-digits", "rendered digits on smooth coloured grounds; not SVHN", ""),
        ("tiny-images", "natural images of 200 kinds, 32x32, colour; not LSUN", ""),
    )
]


@hookimpl
def oodkit_datasets() -> list[DatasetSpec]:
    """Return the sets that are embedded, generated, derived from in-distribution images, or found by name."""
    return [*EMBEDDED, *GENERATED, *DERIVED, *NAMED]
