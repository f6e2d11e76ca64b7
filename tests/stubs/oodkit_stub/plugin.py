"""A third party's package, for tests: detectors that count their work, fail or stop on demand."""

from oodkit import DetectorSpec, ModelSpec, hookimpl

DETECTORS = "oodkit_stub.detectors"


@hookimpl
def oodkit_detectors():
    return [
        DetectorSpec(
            name="brightness",
            target=f"{DETECTORS}:Brightness",
            options=f"{DETECTORS}:BrightnessOptions",
            summary="mean of the sub-pixels [0, 255]",
            model="none",
            aliases=("light",),
        ),
        DetectorSpec(name="darkness", target=f"{DETECTORS}:Darkness", summary="−brightness", model="none"),
        DetectorSpec(name="buggy", target=f"{DETECTORS}:Buggy", summary="fails on white images", model="none"),
        DetectorSpec(name="picky", target=f"{DETECTORS}:Picky", summary="refuses to be fitted", model="none"),
        DetectorSpec(name="mortal", target=f"{DETECTORS}:Mortal", summary="brightness, killed once", model="none"),
        DetectorSpec(name="undefined", target=f"{DETECTORS}:Undefined", summary="NaN", model="none"),
        DetectorSpec(name="neighbourly", target=f"{DETECTORS}:Neighbourly", summary="by its batch", model="none"),
        DetectorSpec(name="lonely", target=f"{DETECTORS}:Lonely", summary="NaN for an image alone", model="none"),
        DetectorSpec(
            name="latent-only", target=f"{DETECTORS}:Brightness", summary="needs an encoder", model="latent-variable"
        ),
    ]


@hookimpl
def oodkit_models():
    return [ModelSpec(name="flat", target="oodkit_stub.model:Flat", summary="one Gaussian per image set")]
