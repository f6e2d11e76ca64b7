"""A corpus of bad input, made from seeds: pictures of every kind, archives, arrays, odd JSON, and their damage."""

import io
import json
import random
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

NAMES = [
    "a b.png",
    "é漢字🙂.jpg",
    "-rf.png",
    "$(id);`id`.png",
    "x" * 200 + ".png",
    "line\nbreak.png",
    "\x1b[31mred.png",
    "%s.png",
]
TRAVERSALS = [
    "../../evil.png",
    "/tmp/evil.png",
    "..\\evil.png",
    "C:\\evil.png",
    "a/../../evil.png",
    "./x.png",
    "nul\0.png",
]
WAYS = ("as it is", "cut", "bits", "bytes", "inserted", "removed", "zeros", "doubled", "empty")


def damaged(content, way, rng):
    """Return `content` after one kind of damage."""
    data = bytearray(content)
    place = rng.randrange(len(data))
    length = rng.choice((1, 2, 4, 64, len(data) // 2))
    if way == "cut":
        del data[place:]
    elif way == "bits":
        for _ in range(rng.choice((1, 1, 2, 20))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif way == "bytes":
        data[place : place + length] = rng.randbytes(len(data[place : place + length]))
    elif way == "inserted":
        data[place:place] = rng.randbytes(length)
    elif way == "removed":
        del data[place : place + length]
    elif way == "zeros":
        data[place : place + length] = bytes(len(data[place : place + length]))
    elif way == "doubled":
        data = data + data
    elif way == "empty":
        data.clear()
    return bytes(data)


# --- pictures -----------------------------------------------------------------------------------------------------


def pixels(rng, shape):
    return np.random.default_rng(rng.getrandbits(32)).integers(0, 256, size=shape, dtype=np.uint8)


def saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def good_picture(rng):
    """Return a picture's bytes, its suffix, and what it must become, uint8 (C, H, W) as PIL itself gives it."""
    side = rng.choice((1, 2, 8, 8, 8, 40))
    colour = Image.fromarray(pixels(rng, (side, side, 3)))
    grey = colour.convert("L")
    kinds = {
        "grey": lambda: (saved(grey, "PNG"), ".png"),
        "colour": lambda: (saved(colour, "PNG"), ".PNG"),
        "palette": lambda: (saved(colour.quantize(5), "PNG"), ".png"),
        "transparent palette": lambda: (saved(colour.quantize(5), "PNG", transparency=0), ".png"),
        "transparent": lambda: (saved(Image.fromarray(pixels(rng, (side, side, 4))), "PNG"), ".png"),
        "grey and alpha": lambda: (saved(grey.convert("LA"), "PNG"), ".png"),
        "one bit": lambda: (saved(grey.convert("1"), "PNG"), ".png"),
        "16 bits": lambda: (saved(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG"), ".png"),
        "jpeg": lambda: (saved(colour, "JPEG"), ".jpg"),
        "cmyk": lambda: (saved(colour.convert("CMYK"), "JPEG"), ".jpeg"),
        "turned": lambda: (saved(colour, "JPEG", exif=_exif()), ".jpg"),
        "animated gif": lambda: (saved(colour, "GIF", save_all=True, append_images=[colour.rotate(90)] * 2), ".gif"),
        "animated png": lambda: (saved(colour, "PNG", save_all=True, append_images=[colour.rotate(90)]), ".png"),
        "tiff": lambda: (saved(colour, "TIFF", save_all=True, append_images=[grey]), ".tif"),
        "bmp": lambda: (saved(colour, "BMP"), ".bmp"),
        "webp": lambda: (saved(colour, "WEBP"), ".webp"),
        "ppm": lambda: (saved(colour, "PPM"), ".ppm"),
        "jpeg 2000": lambda: (saved(colour, "JPEG2000"), ".jp2"),
    }
    kind = rng.choice(list(kinds))
    content, suffix = kinds[kind]()
    with Image.open(io.BytesIO(content)) as opened:
        wanted = opened.convert("L" if opened.mode in ("1", "L", "LA") else "RGB") if kind != "16 bits" else grey
        wanted = np.atleast_3d(np.asarray(wanted)).transpose(2, 0, 1)
    return content, suffix, wanted


def _exif():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    return exif


def claiming_png(width, height, bits=8, colour=0):
    """Return a PNG of a few bytes that says to be this large."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def claiming_bmp(width, height):
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def claiming_gif(width, height):
    return (
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0)
    )


def claims(rng):
    """Return a picture that claims to be huge, and its suffix."""
    return rng.choice(
        [
            (claiming_png(60_000, 60_000), ".png"),
            (claiming_png(2**31 - 1, 2**31 - 1, 16, 6), ".png"),
            (claiming_png(0, 0), ".png"),
            (claiming_png(9_000, 9_000), ".png"),
            (claiming_bmp(60_000, 60_000), ".bmp"),
            (claiming_bmp(-1, 2**31 - 1), ".bmp"),
            (claiming_gif(60_000, 60_000), ".gif"),
            (b"P6 60000 60000 255 ", ".ppm"),
            (b"P5 99999999999 99999999999 255 ", ".pgm"),
        ]
    )


# --- archives and arrays ------------------------------------------------------------------------------------------


def zipped(members, *, link="", method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
        if link:
            info = zipfile.ZipInfo("link.png")
            info.external_attr = 0o120777 << 16
            archive.writestr(info, link)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npy_claiming(shape, descr="|u1"):
    """Return a .npy of a few bytes whose header says this shape."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(100)


def arrays(rng):
    """Return a file of arrays, its suffix, and the images in it where it is a good one."""
    images = pixels(rng, (3, 1, 8, 8))
    code = npy(np.array([print, {"a": 1}], dtype=object))
    return rng.choice(
        [
            lambda: (npy(images), ".npy", images),
            lambda: (npy(np.asfortranarray(images)), ".npy", images),
            lambda: (zipped({"images.npy": npy(images), "labels.npy": npy(np.arange(3))}), ".npz", images),
            lambda: (zipped({"images.npy": npy(images)}, method=zipfile.ZIP_STORED), ".npz", images),
            lambda: (code, ".npy", None),
            lambda: (zipped({"images.npy": code}), ".npz", None),
            lambda: (zipped({"images.npy": npy(images), "labels.npy": code}), ".npz", None),
            lambda: (npy_claiming((20 * 2**30,)), ".npy", None),
            lambda: (npy_claiming((2**40, 1, 8, 8)), ".npy", None),
            lambda: (npy_claiming((-1, 8, 8)), ".npy", None),
            lambda: (npy_claiming((3, 8, 8), "|O"), ".npy", None),
            lambda: (npy_claiming("(" * 500), ".npy", None),
            lambda: (zipped({"images.npy": npy_claiming((20 * 2**20, 1, 32, 32))}), ".npz", None),
            lambda: (zipped({"../../images.npy": npy(images)}), ".npz", images),
            lambda: (npy(images.astype(np.float32)), ".npy", None),
            lambda: (npy(np.full((3, 8, 8), np.nan)), ".npy", None),
            lambda: (npy(images[:0]), ".npy", None),
            lambda: (zipped({}), ".npz", None),
        ]
    )()


# --- JSON ---------------------------------------------------------------------------------------------------------


def odd_value(rng, depth=0):
    """Return a value that JSON can hold and nobody expects."""
    plain = [
        None,
        True,
        -1,
        0,
        2**70,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "../../etc/passwd",
        "\0",
        "__import__",
    ]
    kind = rng.randrange(3 if depth < 2 else 1)
    if kind == 0:
        return rng.choice(plain)
    values = [odd_value(rng, depth + 1) for _ in range(rng.randrange(3))]
    return values if kind == 1 else {str(rng.choice(plain)): value for value in values}


def odd_document(document, rng):
    """Return `document` with one value, somewhere, that is another, or missing, or named otherwise."""
    made = json.loads(json.dumps(document))
    place = made
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return made
        key = rng.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.7:
            place = place[key]
            continue
        change = rng.randrange(3)
        if change == 0:
            del place[key]
        elif change == 1 and isinstance(place, dict):
            place[f"{key}x"] = place.pop(key)
        else:
            place[key] = odd_value(rng)
        return made


def generator(kind, seed):
    return random.Random(f"{kind} {seed}")
