"""What lets a small picture file take hours or gigabytes, found before it is decoded.

Of a picture's own pixels `oodkit.pictures` takes care; here is what their number does not bound.
"""

import io
import re
import struct
from collections.abc import Generator
from contextlib import contextmanager

from PIL import Image

from oodkit.errors import ImageError

__all__ = ["MAX_PIXELS", "open_picture", "tile_pixels"]

# Pillow knows more formats; those that run other programs (EPS) or that no data set uses are not worth it.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000")
MAX_PIXELS = 80_000_000  # of one picture; below the size at which Pillow warns by itself
MAX_PIECES = 100_000  # that Pillow reads of a header: each may become an object, and a byte of the file be one
MAX_SCANS = 100  # of a JPEG: each goes over all pixels, and takes as little as a few bytes. libtiff has the same limit
MAX_COMMENTS = 1_000  # of a PPM in text: Pillow copies what follows each one
TILE_WIDTH, TILE_HEIGHT = 322, 323  # tags of a TIFF
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "B", 8: "H", 9: "I", 16: "Q", 17: "Q"}  # TIFF's types

# What a JPEG's segment begins with: no byte of the pixels (0xff00), and no marker that stands alone.
SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)
START_OF_SCAN, END = b"\xff\xda", b"\xff\xd9"


class _Header(io.BytesIO):
    """A file that is no longer read once that was done too often."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.pieces = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.pieces += 1
        if self.pieces > MAX_PIECES:
            raise ImageError(f"its header is in more than {MAX_PIECES:,} pieces")
        return super().read(size)


@contextmanager
def open_picture(content: bytes) -> Generator[Image.Image]:
    """Open a picture file, of which Pillow reads the header.

    Raises:
        ImageError: it would take far more time or memory than its pixels.
    """
    if content.startswith(b"\xff\xd8") and _scans(content) > MAX_SCANS:
        raise ImageError(f"it has more than {MAX_SCANS} scans")
    if content.startswith((b"P1", b"P2", b"P3")) and content.count(b"#") > MAX_COMMENTS:
        raise ImageError(f"it has more than {MAX_COMMENTS:,} comments")
    tile_pixels(content)
    file = _Header(content)
    with Image.open(file, formats=FORMATS) as picture:
        file.pieces = -len(content)  # pixels may come in any number of pieces: a BMP's run by run
        yield picture


def _scans(content: bytes) -> int:
    """Return the number of a JPEG's scans, or any number above the limit."""
    scans, place = 0, 2
    while scans <= MAX_SCANS and (found := SEGMENT.search(content, place)) and found[0] != END:
        scans += found[0] == START_OF_SCAN
        place = found.end() + int.from_bytes(content[found.end() : found.end() + 2])  # its length, these two with it
    return scans


def tile_pixels(content: bytes) -> int:
    """Return how many pixels of a TIFF are unpacked at once because they are one tile; 0 where there are no tiles.

    Raises:
        ImageError: more than a picture may have.
    """
    sides = {TILE_WIDTH: 0, TILE_HEIGHT: 0}
    try:
        for tag, value in _tiff_tags(content):
            if tag in sides:
                sides[tag] = max(sides[tag], value)  # a tag may be there twice: not all readers take the same
    except struct.error:  # it ends early
        pass
    width, height = sides.values()
    if width * height > MAX_PIXELS:
        raise ImageError(f"its tiles are {width}x{height}, more than {MAX_PIXELS // 10**6} megapixels")
    return width * height


def _tiff_tags(content: bytes) -> Generator[tuple[int, int]]:
    """Yield the tags of a TIFF's first directory whose value is a whole number, and that number."""
    if content[:2] not in (b"II", b"MM"):
        return
    order = "<" if content.startswith(b"II") else ">"
    big = 43 in content[2:4]
    place, number, entry = (8, "Q", "HHQ") if big else (4, "H", "HHI")
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), content, place)
    (count,) = struct.unpack_from(order + number, content, start)
    length = struct.calcsize(order + entry) + (8 if big else 4)
    for i in range(min(count, 2**16)):
        at = start + struct.calcsize(number) + i * length
        tag, kind, _ = struct.unpack_from(order + entry, content, at)
        if kind in WHOLE_NUMBERS:
            (value,) = struct.unpack_from(order + WHOLE_NUMBERS[kind], content, at + struct.calcsize(order + entry))
            yield tag, value
