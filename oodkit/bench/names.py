"""What the name of an OOD set says: SET*0.4, resized:SET and recompressed:SET are made from SET."""

import math

__all__ = ["CONTROLS", "RECOMPRESSED", "RESIZED", "brightness_of", "is_plain", "made_from"]

RESIZED = "resized:"  # the ID test images through the resize chain of the set that follows
RECOMPRESSED = "recompressed:"  # and through its JPEG compression too
CONTROLS = (RESIZED, RECOMPRESSED)


def brightness_of(name: str) -> tuple[str, float | None]:
    """Return SET and 0.4 of `SET*0.4`; of any other name, the name and None."""
    base, star, text = name.rpartition("*")
    try:
        factor = float(text) if star else math.nan
    except ValueError:  # a file or a folder may have a star in its name
        return name, None
    return (base, factor) if math.isfinite(factor) else (name, None)


def is_plain(name: str) -> bool:
    """Return whether a set is taken as it is."""
    return not name.startswith(CONTROLS) and brightness_of(name)[1] is None


def made_from(name: str) -> str:
    """Return SET of `SET*0.4`, `resized:SET` and `recompressed:SET`."""
    return brightness_of(name.removeprefix(RESIZED).removeprefix(RECOMPRESSED))[0]
