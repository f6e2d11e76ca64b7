"""`load_images` from files that nobody vouches for: damaged, of every mode and size, or no pictures at all."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from samples import Items, encoded, pil, random_images, tensor, write_folder, write_zip

from oodkit import DataNotFoundError, ImageError, OptionError, UnknownNameError, load_images

# --- picture files ------------------------------------------------------------------------------------------


def png_of_claimed_size(width, height):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


GOOD = encoded(pil(random_images(1, 3, 40, 40)[0]))
DAMAGED = {
    "truncated": GOOD[: len(GOOD) // 2],
    "header only": GOOD[:20],
    "not a picture": b"hello",
    "empty": b"",
    "9,000 x 9,000": png_of_claimed_size(9_000, 9_000),  # below Pillow's limits
    "9,500 x 9,500": png_of_claimed_size(9_500, 9_500),  # Pillow warns
    "50,000 x 50,000": png_of_claimed_size(50_000, 50_000),  # Pillow refuses
    "elongated": encoded(Image.new("L", (100_000, 1))),  # brought to 40x40, it would have 4,000,000 columns
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_picture_is_named_and_the_others_are_kept(damage, tmp_path):
    contents = {"a/1.png": GOOD, "b/2.png": DAMAGED[damage], "c/3.png": GOOD}
    for source in (write_folder(tmp_path / "pictures", contents), write_zip(tmp_path / "a.zip", contents)):
        made = load_images(source, image_shape=(3, 40, 40))
        assert made.labels.tolist() == [0, 2]
        assert len(made) == 2
        (sentence,) = made.skipped
        assert sentence.startswith("b/2.png: ")


@pytest.mark.parametrize("damage", DAMAGED.keys() - {"elongated"})
def test_only_damaged_pictures_are_an_error_that_names_the_first(damage, tmp_path):
    with pytest.raises(ImageError, match=r"the first is a\.png"):
        load_images(write_folder(tmp_path, {"a.png": DAMAGED[damage], "b.png": b"?"}))
    with pytest.raises(ImageError, match=r"a\.png"):
        load_images(tmp_path / "a.png")


def test_a_member_that_unpacks_to_too_much_is_skipped(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"1.png": GOOD})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("2.png", "w") as member:
            for _ in range(201):
                member.write(bytes(2**20))
    assert load_images(path).skipped == ("2.png: skipped, it is larger than 200 MiB.",)


def test_every_mode_of_picture_becomes_eight_bit_grey_or_colour(tmp_path):
    grey, colour = pil(random_images(1, 1)[0]), pil(random_images(1, 3)[0])
    wide = Image.fromarray(np.array(grey).astype(np.uint16) * 257)
    bits = grey.point(lambda value: 255 * (value > 99)).convert("1")
    palette = colour.quantize(16)
    cases = {
        "grey.png": (encoded(grey), grey),
        "wide.png": (encoded(wide), grey),  # 16 bits: 257 n -> n
        "wide.tif": (encoded(wide, "TIFF"), grey),
        "bits.png": (encoded(bits), bits.convert("L")),
        "alpha.png": (encoded(colour.convert("RGBA")), colour),
        "grey-alpha.png": (encoded(grey.convert("LA")), grey),
        "palette.png": (encoded(palette), palette.convert("RGB")),
        "palette-transparent.png": (encoded(palette, transparency=b"\0\x80"), palette.convert("RGB")),
        "cmyk.tif": (encoded(colour.convert("CMYK"), "TIFF"), colour.convert("CMYK").convert("RGB")),
        "colour.bmp": (encoded(colour, "BMP"), colour),
        "colour.webp": (encoded(colour, "WEBP", lossless=True), colour),
        "grey.pgm": (encoded(grey, "PPM"), grey),
        "animated.gif": (
            encoded(bits, "GIF", save_all=True, append_images=[grey]),
            bits.convert("L"),
        ),
    }
    for name, (content, expected) in cases.items():
        (tmp_path / name).write_bytes(content)
        made = load_images(tmp_path / name).images[0]
        wanted = tensor(expected)
        assert torch.equal(made, wanted.expand_as(made)), name  # a GIF has a palette: three equal channels


def test_sixteen_bits_are_scaled_and_rounded(tmp_path):
    values = np.array([[0, 128, 129, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    made = load_images(tmp_path / "a.png")
    assert made.images.flatten().tolist() == [round(v / 257) for v in values[0].tolist()]
    assert "8 bits of 16" in made.steps


def test_pictures_of_several_sizes_need_an_image_shape(tmp_path):
    small, large = pil(random_images(1, 3, 8, 8)[0]), pil(random_images(1, 3, 9, 12)[0])
    folder = write_folder(tmp_path, {"a.png": encoded(small), "b.png": encoded(large)})
    with pytest.raises(ImageError, match=r"a\.png is 8x8, b\.png is 9x12.*image_shape"):
        load_images(folder)
    made = load_images(folder, image_shape=(3, 8, 8))
    assert torch.equal(made.images[0], tensor(small))
    assert made.steps == (
        "decoded from PNG",
        "bilinear 9x12 -> 8x10 where needed",
        "centre crop 8x10 -> 8x8 where needed",
    )


def test_grey_pictures_among_colour_ones_are_repeated(tmp_path):
    grey, colour = pil(random_images(1, 1)[0]), pil(random_images(1, 3)[0])
    made = load_images(write_folder(tmp_path, {"a.png": encoded(grey), "b.png": encoded(colour)}))
    assert torch.equal(made.images, torch.stack([tensor(grey).expand(3, -1, -1), tensor(colour)]))
    assert "repeat 1 -> 3 channels where needed" in made.steps


def test_only_pictures_count_and_nothing_is_unpacked(tmp_path):
    junk = {
        "__MACOSX/1.png": b"?",
        ".hidden.png": b"?",
        ".git/2.png": b"?",
        "notes.txt": b"?",
        "Thumbs.db": b"?",
    }
    path = write_zip(tmp_path / "a.zip", {"../../evil.png": GOOD, "/root.png": GOOD, "folder/": b"", **junk})
    made = load_images(path)
    assert (len(made), made.skipped) == (2, ())
    assert list(tmp_path.iterdir()) == [path]
    assert len(load_images(write_folder(tmp_path / "pictures", {"1.png": GOOD, **junk}))) == 1


# --- what cannot be loaded ----------------------------------------------------------------------------------


def np_bytes(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


X = random_images().numpy()
BAD_FILES = {
    "empty.zip": (b"", "not a .zip"),
    "damaged.zip": (GOOD * 3, "not a .zip"),
    "damaged.npz": (GOOD, "damaged"),
    "damaged.npy": (np_bytes(X)[:200], "damaged"),
    "pickle.npy": (np_bytes(np.array([{"a": 1}], dtype=object)), "plain numbers"),
    "float.npy": (np_bytes(X / np.float32(255)), r"float32; oodkit takes uint8.*\* 255"),
    "int.npy": (np_bytes(X.astype(np.int64)), r"int64; oodkit takes uint8"),
    "one.npy": (np_bytes(X[0, 0]), r"shape \(12, 12\)"),
    "none.npy": (np_bytes(X[:0]), "no images"),
    "rgba.npy": (np_bytes(np.zeros((2, 8, 8, 4), dtype=np.uint8)), "is not one of images"),
    "notes.txt": (b"hello", "not a picture"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_sentence_that_names_it(name, tmp_path):
    content, words = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=words) as caught:
        load_images(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_archives_of_arrays(tmp_path):
    np.savez(tmp_path / "two.npz", x_train=X, x_test=X)
    with pytest.raises(ImageError, match="x_train, x_test; name one 'images'"):
        load_images(tmp_path / "two.npz")
    np.savez(tmp_path / "labels.npz", images=X, labels=np.arange(3))
    with pytest.raises(ImageError, match="one label per image"):
        load_images(tmp_path / "labels.npz")


def test_empty_folder_and_empty_zip(tmp_path):
    with pytest.raises(ImageError, match="there are no pictures"):
        load_images(tmp_path)
    with pytest.raises(ImageError, match="there are no pictures"):
        load_images(write_zip(tmp_path / "a.zip", {"notes.txt": b""}))


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("fashon-mnist", UnknownNameError, "did you mean fashion-mnist"),
        ("", UnknownNameError, "no data set"),
        ("x" * 5000 + ".npz", DataNotFoundError, "cannot be looked at|no file"),
        ("~no-such-user/a.npz", DataNotFoundError, "no file or folder ~no-such-user"),
        ("no/such/folder", DataNotFoundError, "no file or folder no/such/folder"),
        ("nothing.npz", DataNotFoundError, r"nothing\.npz"),
        (["nothing.png"], DataNotFoundError, r"nothing\.png"),
        (torch.zeros(2, 3, 8, 8), ImageError, r"float32.*round\(\)"),
        (torch.zeros(8, 8, dtype=torch.uint8), ImageError, r"takes \(N, C, H, W\)"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), ImageError, "there are no images"),
        (np.zeros((2, 8, 8)), ImageError, "float64"),
        (Items([]), ImageError, "there are none"),
        (Items([torch.randn(3, 8, 8)]), ImageError, "Normalize"),
        (Items([torch.zeros(3, 8, 8, dtype=torch.int64)]), ImageError, "int64"),
        (Items(["a"]), ImageError, "is str"),
        (Items([torch.zeros(1, s, s, dtype=torch.uint8) for s in (4, 5)]), ImageError, "differ in size"),
        (5, ImageError, "cannot be made from int"),
        ([], ImageError, "cannot be made from list"),
    ],
    ids=str,
)
def test_what_is_no_source_says_what_to_do(source, error, words):
    with pytest.raises(error, match=words):
        load_images(source)


def test_arguments_that_make_no_sense():
    images = random_images(2)
    with pytest.raises(OptionError, match="limit is 0"):
        load_images(images, limit=0)
    with pytest.raises(OptionError, match="image_shape"):
        load_images(images, image_shape=(3, 0, 8))
    with pytest.raises(ImageError, match="2 channels"):
        load_images(images, image_shape=(2, 8, 8))
    with pytest.raises(ImageError, match="not 2 channels"):
        load_images(images[:, :2], image_shape=(3, 8, 8))
    with pytest.raises(ImageError, match="GiB"):
        load_images(images, image_shape=(3, 100_000, 100_000))
