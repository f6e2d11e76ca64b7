"""`load_images` from all but names: conversions against PIL, every source, files nobody vouches for."""

import io
import itertools
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import oodkit
from oodkit import DataNotFoundError, ImageError, ImageSet, OptionError, UnknownNameError, load_images

BILINEAR = Image.Resampling.BILINEAR
few = settings(max_examples=25, deadline=None)


def random_images(n=6, channels=3, height=12, width=12, seed=0):
    shape = (n, channels, height, width)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def pil(image):
    """Return one (C, H, W) image as PIL has it."""
    rows = image.permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(rows[..., 0] if rows.shape[2] == 1 else rows))


def tensor(picture):
    rows = np.array(picture)
    return torch.from_numpy(rows[None] if rows.ndim == 2 else np.moveaxis(rows, 2, 0).copy())


def encoded(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def write_folder(folder, contents):
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_zip(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def named_pngs(images):
    return {f"{i:03}.png": encoded(pil(image)) for i, image in enumerate(images)}


# --- conversions --------------------------------------------------------------------------------------------

sides = st.integers(3, 20)


@few
@given(side=sides, to_side=sides, channels=st.sampled_from([1, 3]), seed=st.integers(0, 99))
def test_resizing_equals_pil_one_image_at_a_time(side, to_side, channels, seed):
    images = random_images(3, channels, side, side, seed)
    fast = load_images(images, image_shape=(channels, to_side, to_side)).images
    slow = torch.stack([tensor(pil(image).resize((to_side, to_side), BILINEAR)) for image in images])
    assert torch.equal(fast, slow)


@few
@given(side=sides, to_side=sides, seed=st.integers(0, 99))
def test_colour_becomes_grey_as_pil_does_it_before_it_is_resized(side, to_side, seed):
    images = random_images(3, 3, side, side, seed)
    fast = load_images(images, image_shape=(1, to_side, to_side)).images
    slow = torch.stack([tensor(pil(x).convert("L").resize((to_side, to_side), BILINEAR)) for x in images])
    assert torch.equal(fast, slow)


@few
@given(height=sides, width=sides, to_height=sides, to_width=sides)
def test_other_proportions_are_resized_by_the_shorter_side_and_cropped_at_the_centre(
    height, width, to_height, to_width
):
    images = random_images(2, 3, height, width)
    made = load_images(images, image_shape=(3, to_height, to_width))
    if width / height >= to_width / to_height:
        size = (to_height * width // height, to_height)
    else:
        size = (to_width, to_width * height // width)
    left, top = round((size[0] - to_width) / 2), round((size[1] - to_height) / 2)
    box = (left, top, left + to_width, top + to_height)
    slow = torch.stack([tensor(pil(image).resize(size, BILINEAR).crop(box)) for image in images])
    assert torch.equal(made.images, slow)


def test_without_crop_a_picture_is_squashed():
    images = random_images(2, 3, 20, 10)
    made = load_images(images, image_shape=(3, 8, 8), crop=False)
    assert torch.equal(made.images, torch.stack([tensor(pil(x).resize((8, 8), BILINEAR)) for x in images]))
    assert made.steps == ("bilinear 20x10 -> 8x8",)


def test_grey_is_repeated_for_a_colour_model():
    images = random_images(channels=1)
    assert torch.equal(load_images(images, image_shape=(3, 12, 12)).images, images.expand(-1, 3, -1, -1))


@pytest.mark.parametrize(
    ("shape", "image_shape", "steps"),
    [
        ((1, 28, 28), (1, 28, 28), ()),
        ((1, 28, 28), (3, 32, 32), ("bilinear 28x28 -> 32x32", "repeat 1 -> 3 channels")),
        ((3, 28, 28), (1, 32, 32), ("grey (PIL L)", "bilinear 28x28 -> 32x32")),
        ((3, 32, 40), (3, 32, 32), ("centre crop 32x40 -> 32x32",)),
        ((3, 64, 80), (3, 32, 32), ("bilinear 64x80 -> 32x40", "centre crop 32x40 -> 32x32")),
    ],
)
def test_each_step_is_recorded(shape, image_shape, steps):
    made = load_images(random_images(2, *shape), image_shape=image_shape)
    assert (made.image_shape, made.steps) == (image_shape, steps)


def test_steps_of_a_conversion_follow_those_before_it():
    once = load_images(random_images(), image_shape=(3, 8, 8))
    assert load_images(once, image_shape=(1, 8, 8)).steps == ("bilinear 12x12 -> 8x8", "grey (PIL L)")


# --- sources ------------------------------------------------------------------------------------------------


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Stream(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


def saved(save, path, *args, **arrays):
    save(path, *args, **arrays)
    return path


SOURCES = {
    "npz, N x H x W x C": lambda x, at: saved(np.savez, at / "a.npz", images=x.permute(0, 2, 3, 1).numpy()),
    "npz, another name": lambda x, at: saved(np.savez, at / "a.npz", pixels=x.numpy()),
    "npy": lambda x, at: saved(np.save, at / "a.npy", x.numpy()),
    "zip": lambda x, at: str(write_zip(at / "a.zip", named_pngs(x))),
    "folder": lambda x, at: write_folder(at / "pictures", named_pngs(x)),
    "files": lambda x, at: sorted(write_folder(at / "pictures", named_pngs(x)).iterdir()),
    "array": lambda x, at: x.numpy(),
    "read-only array, N x H x W x C": lambda x, at: np.broadcast_to(
        x.permute(0, 2, 3, 1).numpy(), (*x[:, 0].shape, x.shape[1])
    ),
    "tensor": lambda x, at: x,
    "image set": lambda x, at: ImageSet("mine", "test", x),
    "data set of tensors": lambda x, at: Items(list(x)),
    "data set of PIL pictures and labels": lambda x, at: Items([(pil(image), 1) for image in x]),
    "data set of exact floats": lambda x, at: Items([(image / 255, 1) for image in x]),
    "data set of arrays": lambda x, at: Items([image.permute(1, 2, 0).numpy() for image in x]),
    "stream": lambda x, at: Stream(list(x)),
    "loader": lambda x, at: DataLoader(Items(list(x)), batch_size=4),
    "loader with labels": lambda x, at: DataLoader(TensorDataset(x, torch.arange(len(x))), batch_size=4),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_images(source, channels, tmp_path):
    images = random_images(channels=channels)
    made = load_images(SOURCES[source](images, tmp_path))
    assert torch.equal(made.images, images)
    assert made.hash == ImageSet("", "", images).hash


@pytest.mark.parametrize("source", [source for source in SOURCES if source != "stream"])
def test_limit_draws_the_same_images_from_every_source(source, tmp_path):
    images = random_images(20)
    drawn = load_images(SOURCES[source](images, tmp_path), limit=7, seed=3).images
    assert torch.equal(drawn, ImageSet("", "", images).sample(7, seed=3).images)
    assert not torch.equal(drawn, load_images(images, limit=7, seed=4).images)


@pytest.mark.parametrize("through", [lambda stream: stream, lambda stream: DataLoader(stream, batch_size=4)])
def test_a_stream_without_end_gives_its_first_images(through):
    images = random_images(20)
    made = load_images(through(Stream(itertools.cycle(images))), limit=7, seed=3)
    assert torch.equal(made.images, images[:7]) and made.source.endswith("its first 7")


def test_a_stream_without_end_or_limit_is_refused_before_memory_is_full(monkeypatch):
    monkeypatch.setattr("oodkit.pictures.MAX_SET_BYTES", 100 * 3 * 12 * 12)
    with pytest.raises(ImageError, match=r"101 images of 3x12x12 would take .* ask for fewer with limit"):
        load_images(Stream(itertools.cycle(random_images(20))))


def test_grey_arrays_need_no_channel():
    images = random_images(channels=1)
    assert torch.equal(load_images(images[:, 0].numpy()).images, images)


def test_an_array_that_changes_later_does_not_change_the_set():
    array = random_images().numpy()
    made = load_images(array)
    array[:] = 0
    assert made.images.any()


def test_labels_are_kept(tmp_path):
    x, labels = random_images(4), torch.tensor([3, 1, 2, 0])
    np.savez(tmp_path / "a.npz", images=x.numpy(), labels=labels.numpy())
    assert torch.equal(load_images(tmp_path / "a.npz").labels, labels)
    assert torch.equal(load_images(TensorDataset(x, labels)).labels, labels)
    assert torch.equal(load_images(DataLoader(TensorDataset(x, labels), batch_size=3)).labels, labels)
    assert load_images(Items(list(x))).labels is None


def test_folders_are_classes_in_order_of_their_names(tmp_path):
    a, b, c = (encoded(pil(image)) for image in random_images(3))
    contents = {"zebra/1.png": a, "ant/2.png": b, "ant/1.png": c}
    for source in (write_folder(tmp_path / "pictures", contents), write_zip(tmp_path / "a.zip", contents)):
        assert load_images(source).labels.tolist() == [0, 0, 1]
    assert load_images(tmp_path / "pictures" / "ant").labels is None


def test_a_folder_with_splits_gives_the_one_asked_for_and_never_both(tmp_path):
    train, test = random_images(2)
    folder = write_folder(tmp_path, {"train/a.png": encoded(pil(train)), "test/a.png": encoded(pil(test))})
    assert torch.equal(load_images(folder, "train").images, train[None])
    assert torch.equal(load_images(folder, "test").images, test[None])
    (folder / "test" / "a.png").unlink()
    with pytest.raises(DataNotFoundError, match="holds train but no test"):
        load_images(folder, "test")


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


# --- other people's objects ---------------------------------------------------------------------------------------


def colourful(count, size=(12, 10)):
    rng = np.random.default_rng(count)
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(count)]


def test_a_list_of_pictures():
    pictures = colourful(4)
    loaded = load_images(pictures)
    assert [np.asarray(p).tolist() for p in pictures] == loaded.images.permute(0, 2, 3, 1).tolist()
    assert loaded.name == "4 pictures" and loaded.labels is None
    assert len(load_images(pictures, limit=2, image_shape=(1, 8, 8))) == 2


@pytest.mark.parametrize("labelled", [True, False])
def test_a_hugging_face_data_set(labelled):
    import datasets

    pictures = colourful(5)
    columns = {"image": pictures, "text": list("abcde"), **({"label": [3, 1, 2, 0, 1]} if labelled else {})}
    features = {"image": datasets.Image(), "text": datasets.Value("string")}
    if labelled:
        features["label"] = datasets.ClassLabel(num_classes=4)
    rows = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    loaded = load_images(rows)
    torch.testing.assert_close(loaded.images, load_images(pictures).images)
    assert (loaded.labels.tolist() if labelled else loaded.labels) == ([3, 1, 2, 0, 1] if labelled else None)
    both = datasets.DatasetDict({"train": rows, "test": rows.select([1, 3])})
    torch.testing.assert_close(load_images(both, "test").images, loaded.images[[1, 3]])
    with pytest.raises(DataNotFoundError, match="no split 'validation'; it has train, test"):
        load_images(both, "validation")
    with pytest.raises(ImageError, match="which column are the pictures"):
        load_images(rows.remove_columns("image"))


@pytest.mark.parametrize("known", [True, False])
def test_a_hugging_face_data_set_that_streams(known):
    import datasets

    pictures, labels = colourful(5), [3, 1, 2, 0, 1]
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=4)} if known else None
    stream = datasets.IterableDataset.from_generator(
        lambda: ({"image": picture, "label": label} for picture, label in zip(pictures, labels, strict=True)),
        features=None if features is None else datasets.Features(features),
    )
    loaded = load_images(stream)
    torch.testing.assert_close(loaded.images, load_images(pictures).images)
    assert loaded.labels.tolist() == labels
    part = load_images(datasets.IterableDatasetDict({"train": stream}), "train", limit=2)
    torch.testing.assert_close(part.images, loaded.images[:2])
    assert part.source == "a Hugging Face stream, its first 2"
    with pytest.raises(ImageError, match="which column are the pictures"):
        load_images(stream.remove_columns("image"))


def sources(folder):
    """Every way to name the same four grey 8x8 images."""
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    (folder / "pictures").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / "pictures" / f"{i}.png")
    shutil.make_archive(str(folder / "packed"), "zip", folder / "pictures")
    np.save(folder / "images.npy", images)
    np.savez(folder / "images.npz", images=images)
    tensor = torch.from_numpy(images)[:, None]
    data = torch.utils.data.TensorDataset(tensor)
    return images, {
        "folder": folder / "pictures",
        "zip": folder / "packed.zip",
        "npy": folder / "images.npy",
        "npz": folder / "images.npz",
        "array": images,
        "tensor": tensor,
        "pictures": [Image.fromarray(image) for image in images],
        "dataset": data,
        "loader": torch.utils.data.DataLoader(data, batch_size=3),
    }


def test_every_source_gives_the_same_images_and_the_same_refusal(tmp_path):
    images, every = sources(tmp_path)
    for name, source in every.items():
        assert np.array_equal(load_images(source).images[:, 0].numpy(), images), name
        with pytest.raises(ImageError, match=r"not all 3x8x8.*--resize \(resize=True\): repeat 1 -> 3 channels"):
            load_images(source, image_shape=(3, 8, 8), resize=False)
        with pytest.raises(ImageError, match="bilinear 8x8 -> 16x16"):
            load_images(source, image_shape=(1, 16, 16), resize=False)
        assert load_images(source, image_shape=(1, 8, 8), resize=False).image_shape == (1, 8, 8), name
        assert load_images(source, image_shape=(1, 16, 16)).image_shape == (1, 16, 16), name


def test_a_detector_takes_them_all(tmp_path):
    images, every = sources(tmp_path)
    model = oodkit.train_model("vae", load_images(images, image_shape=(1, 32, 32)), epochs=0, width=2, latent=2)
    detector = oodkit.create_detector("elbo", model).fit(load_images(images, image_shape=(1, 32, 32)))
    for source in every.values():
        with pytest.raises(ImageError, match=r"1x8x8, the model takes 1x32x32; convert them with oodkit.load_images"):
            detector.score(source)
    expected = detector.score(load_images(images, image_shape=(1, 32, 32)))
    (tmp_path / "large").mkdir()
    for i, image in enumerate(load_images(images, image_shape=(1, 32, 32)).images):
        Image.fromarray(image[0].numpy()).save(tmp_path / "large" / f"{i}.png")
    torch.testing.assert_close(detector.score(tmp_path / "large"), expected)
