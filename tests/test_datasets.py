"""The data sets that come with oodkit: embedded, generated, derived, and found by name in every layout."""

import gzip
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from layouts import batch, idx, random_images, written
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits, load_sample_images

from oodkit import DataNotFoundError, ImageError, ImageSet, OptionError, load_images

REAL = [Path(folder) for folder in os.environ.get("OODKIT_DATA", "").split(os.pathsep) if folder]
few = settings(max_examples=20, deadline=None)


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OODKIT_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def real_data():
    if not any((folder / "cifar10-lossless-test.npz").is_file() for folder in REAL):
        pytest.skip("set OODKIT_DATA to the folder with the real test sets, cifar10-lossless-test.npz among them")


# --- generated ----------------------------------------------------------------------------------------------


@few
@given(
    name=st.sampled_from(["noise", "constant", "photos"]),
    count=st.integers(1, 20),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(-(2**31), 2**31),
)
def test_generated_sets_have_the_shape_asked_for_and_depend_on_the_seed_alone(
    name, count, channels, height, width, seed
):
    def make(seed):
        return load_images(name, limit=count, image_shape=(channels, height, width), seed=seed)

    one = make(seed)
    assert one.images.shape == (count, channels, height, width)
    assert one.hash == make(seed).hash


@pytest.mark.parametrize("name", ["noise", "constant", "photos"])
def test_seeds_and_splits_share_no_images(name):
    sets = [load_images(name, split, seed=seed) for split in ("train", "test") for seed in (0, 1)]
    assert len({images.hash for images in sets}) == 4
    assert {len(images) for images in sets} == {1000}


def test_noise_is_uniform_in_each_pixel_and_channel():
    counts = load_images("noise", limit=500, image_shape=(3, 32, 32)).images.flatten().bincount(minlength=256)
    expected = 500 * 3 * 32 * 32 / 256
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 350  # 255 degrees of freedom: p = 7e-5


def test_constant_is_one_value_for_each_image_and_channel():
    images = load_images("constant", image_shape=(3, 8, 8)).images
    assert torch.equal(images, images[:, :, :1, :1].expand_as(images))
    values = images[:, :, 0, 0]
    assert len(values.unique()) > 200
    assert not torch.equal(values[:, 0], values[:, 1])


# --- embedded -----------------------------------------------------------------------------------------------


def test_digits_are_split_without_overlap_and_without_loss():
    shape = (1, 8, 8)
    train, test = (load_images("digits", split, image_shape=shape) for split in ("train", "test"))
    assert (len(train), len(test)) == (1297, 500)
    both = torch.cat([train.images, test.images]).flatten(1)
    all_digits = torch.from_numpy(load_digits().images * 255 / 16).round().to(torch.uint8).flatten(1)
    assert sorted(both.tolist()) == sorted(all_digits.tolist())
    assert set(train.labels.tolist()) == set(test.labels.tolist()) == set(range(10))


def test_named_sets_come_in_the_size_of_the_models():
    assert load_images("digits").image_shape == (1, 32, 32)
    assert load_images("photos", limit=2).image_shape == (3, 32, 32)
    assert "bilinear 8x8 -> 32x32" in load_images("digits").steps


@pytest.mark.parametrize(("split", "half"), [("train", slice(None, 320)), ("test", slice(320, None))])
def test_photos_are_patches_of_one_half_of_the_photographs(split, half):
    patches = load_images("photos", split, limit=4, image_shape=(3, 8, 8)).images.permute(0, 2, 3, 1).numpy()
    halves = [photo[:, half] for photo in load_sample_images().images]
    for patch in patches:
        found = False
        for photo in halves:
            windows = np.lib.stride_tricks.sliding_window_view(photo[..., 0], (8, 8))
            for top, left in np.argwhere((windows == patch[..., 0]).all((2, 3))):
                found |= np.array_equal(photo[top : top + 8, left : left + 8], patch)
        assert found


def test_photos_have_no_patch_larger_than_themselves():
    with pytest.raises(ImageError, match="does not fit into 427x320"):
        load_images("photos", image_shape=(3, 32, 321))


# --- derived ------------------------------------------------------------------------------------------------

CHANGES = {
    "inverted": lambda x: 255 - x,
    "rotated": lambda x: np.rot90(x),
    "flipped": lambda x: x[::-1],
    "dimmed": lambda x: np.floor(x * 3.0 / 10 + 0.5).astype(np.uint8),
}


@pytest.mark.parametrize("name", CHANGES)
def test_derived_sets_change_each_image_of_the_reference(name):
    reference = ImageSet("mine", "test", random_images(5, 3, 7), torch.arange(5))
    made = load_images(name, reference=reference)
    for before, after in zip(reference.images, made.images, strict=True):
        for channel_before, channel_after in zip(before.numpy(), after.numpy(), strict=True):
            assert np.array_equal(channel_after, CHANGES[name](channel_before))
    assert made.name == name
    assert "mine" in made.source
    assert torch.equal(made.labels, reference.labels)
    assert torch.equal(load_images(name, limit=2, reference=reference).labels, reference.sample(2).labels)


@pytest.mark.parametrize("name", CHANGES)
def test_derived_sets_need_a_reference(name):
    with pytest.raises(OptionError, match="in-distribution test images"):
        load_images(name)
    with pytest.raises(OptionError, match="no split 'train'"):
        load_images(name, "train", reference=ImageSet("mine", "test", random_images(2, 1, 4)))


# --- layouts ------------------------------------------------------------------------------------------------


def batch_of_python_2(images, labels):
    """Return the instructions that Python 2 wrote: byte strings without an encoding (SHORT_BINSTRING, BINSTRING)."""
    pixels = images.numpy().tobytes()
    data = b"U\x04data" + b"T" + struct.pack("<i", len(pixels)) + pixels
    return b"\x80\x02}(" + data + b"U\x06labels](" + b"".join(b"K" + bytes([n]) for n in labels) + b"eu."


def png(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = image.permute(1, 2, 0).numpy()
    Image.fromarray(rows[..., 0] if rows.shape[2] == 1 else rows).save(path)


def write_cifar10(folder, images, labels, write):
    parts = zip(images.chunk(5), np.array_split(labels, 5), strict=True)
    for i, (part, part_labels) in enumerate(parts, 1):
        written(folder / f"data_batch_{i}", write(part, part_labels.tolist()))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_idx_files_of_torchvision(name, folder, zipped, data_folder):
    for split, word in (("train", "train"), ("test", "t10k")):
        images = random_images(7 if split == "train" else 3, 1, 28)
        labels = torch.arange(len(images), dtype=torch.uint8)
        for kind, array in (("images-idx3", images[:, 0]), ("labels-idx1", labels)):
            path = data_folder / folder / "raw" / f"{word}-{kind}-ubyte{'.gz' if zipped else ''}"
            written(path, gzip.compress(idx(array.numpy())) if zipped else idx(array.numpy()))
        found = load_images(name, split, image_shape=(1, 28, 28))
        assert torch.equal(found.images, images)
        assert torch.equal(found.labels, labels.long())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        struct.pack(">HBBIII", 0, 8, 3, 2, 28, 28),
        struct.pack(">HBB", 0, 0x0D, 3) + bytes(99),
        struct.pack(">HBBIII", 0, 8, 3, 2**31, 2**31, 2**31),
        idx(np.zeros((5, 5), dtype=np.uint8)),
    ],
    ids=["empty", "short", "no pixels", "floats", "huge", "two axes"],
)
def test_damaged_idx_files(content, data_folder):
    written(data_folder / "MNIST" / "raw" / "t10k-images-idx3-ubyte", content)
    with pytest.raises(ImageError, match="t10k-images-idx3-ubyte"):
        load_images("mnist")


@pytest.mark.parametrize(
    "write",
    [batch_of_python_2, *(lambda x, y, p=p: batch(x, y, protocol=p) for p in (2, 3, 4, 5))],
    ids=["python 2", "protocol 2", "protocol 3", "protocol 4", "protocol 5"],
)
def test_cifar10_batches_are_read_without_unpickling(write, data_folder):
    train, test = random_images(20, 3, 32), random_images(4, 3, 32)
    labels = np.arange(20) % 10
    write_cifar10(data_folder / "cifar-10-batches-py", train, labels, write)
    written(data_folder / "cifar-10-batches-py" / "test_batch", write(test, [3, 1, 2, 0]))
    found = load_images("cifar10", "train")
    assert torch.equal(found.images, train)
    assert found.labels.tolist() == labels.tolist()
    assert torch.equal(load_images("cifar10", "test").images, test)
    assert load_images("cifar10", "test").labels.tolist() == [3, 1, 2, 0]


def test_more_labels_than_one_pickle_instruction_holds(data_folder):
    images = random_images(1100, 3, 32)  # lists are written a thousand items at a time
    labels = [i % 300 for i in range(1100)]
    written(data_folder / "cifar-100-python" / "test", batch(images, labels, "fine_labels"))
    found = load_images("cifar100")
    assert torch.equal(found.images, images)
    assert found.labels.tolist() == labels


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_that_runs_something_does_not(data_folder):
    evil = data_folder / "executed"
    images = random_images(2, 3, 32)
    held = {b"data": images.reshape(2, -1).numpy(), b"labels": Trap(evil)}
    written(data_folder / "cifar-10-batches-py" / "test_batch", pickle.dumps(held, protocol=2))
    found = load_images("cifar10")
    assert not evil.exists()
    assert torch.equal(found.images, images)
    assert found.labels is None


@pytest.mark.parametrize(
    "content", [b"", b"hello", pickle.dumps({b"data": 1}), batch(random_images(2, 3, 32), [0, 1])[:3000]]
)
def test_damaged_cifar_batches(content, data_folder):
    written(data_folder / "cifar-10-batches-py" / "test_batch", content)
    with pytest.raises(ImageError, match="test_batch"):
        load_images("cifar10")


def test_a_missing_cifar_batch_is_not_passed_over(data_folder):
    write_cifar10(data_folder / "cifar-10-batches-py", random_images(5, 3, 32), np.arange(5), batch)
    (data_folder / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(DataNotFoundError, match="data_batch_4"):
        load_images("cifar10", "train")


@pytest.mark.parametrize(
    ("name", "path", "label_bytes"),
    [("cifar10", "cifar-10-batches-bin/test_batch.bin", 1), ("cifar100", "cifar-100-binary/test.bin", 2)],
)
def test_cifar_in_binary(name, path, label_bytes, data_folder):
    images, labels = random_images(3, 3, 32), [7, 0, 9]
    records = [bytes([99] * (label_bytes - 1) + [n]) + x.numpy().tobytes() for x, n in zip(images, labels, strict=True)]
    written(data_folder / path, b"".join(records))
    found = load_images(name)
    assert torch.equal(found.images, images)
    assert found.labels.tolist() == labels
    written(data_folder / path, b"".join(records)[:-1])
    with pytest.raises(ImageError, match="not a whole number"):
        load_images(name)


def test_svhn(data_folder):
    images = random_images(5, 3, 32)
    held = {"X": images.permute(2, 3, 1, 0).numpy(), "y": np.array([[1], [10], [3], [4], [5]], dtype=np.uint8)}
    savemat(data_folder / "test_32x32.mat", held)
    found = load_images("svhn")
    assert torch.equal(found.images, images)
    assert found.labels.tolist() == [1, 0, 3, 4, 5]
    written(data_folder / "test_32x32.mat", b"hello")
    with pytest.raises(ImageError, match="not SVHN's file"):
        load_images("svhn")


def test_omniglot(data_folder):
    images = random_images(3, 1, 105)
    for i, image in enumerate(images):
        png(image, data_folder / "omniglot-py" / "images_evaluation" / "Latin" / f"character{i // 2}" / f"{i}.png")
    found = load_images("omniglot")
    assert torch.equal(found.images, load_images(images, image_shape=(1, 32, 32)).images)
    assert found.labels.tolist() == [0, 0, 1]


def test_celeba_is_split_by_its_list_and_squashed(data_folder):
    images = torch.randint(256, (4, 3, 218, 178), dtype=torch.uint8)
    for i, image in enumerate(images):
        png(image, data_folder / "celeba" / "img_align_celeba" / f"{i}.jpg")  # Pillow: JPEG by its suffix
    with pytest.raises(DataNotFoundError, match=r"list_eval_partition\.txt"):
        load_images("celeba")
    written(data_folder / "celeba" / "list_eval_partition.txt", b"0.jpg 0\n1.jpg 2\n2.jpg 1\n3.jpg 2\n")
    found = load_images("celeba")
    for i, image in zip((1, 3), found.images, strict=True):
        with Image.open(data_folder / "celeba" / "img_align_celeba" / f"{i}.jpg") as picture:
            squashed = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR))
        assert np.array_equal(image.permute(1, 2, 0).numpy(), squashed)
    assert len(load_images("celeba", "train")) == 1


def test_lsun_is_a_folder_of_pictures_cropped_at_the_centre(data_folder):
    png(random_images(1, 3, 64)[0, :, :, :48], data_folder / "lsun" / "test" / "a.png")
    steps = load_images("lsun").steps
    assert steps == ("decoded from PNG", "bilinear 64x48 -> 42x32", "centre crop 42x32 -> 32x32")


def test_own_files_by_name_and_split(data_folder):
    train, test, both = (random_images(n, 3, 32) for n in (2, 3, 4))
    np.savez(data_folder / "svhn-train.npz", images=train.permute(0, 2, 3, 1).numpy())
    with zipfile.ZipFile(data_folder / "svhn-test.zip", "w") as archive:
        for i, image in enumerate(test):
            png(image, data_folder / "other" / f"{i}.png")
            archive.write(data_folder / "other" / f"{i}.png", f"{i}.png")
    np.savez(data_folder / "tiny-images.npz", images=both.numpy())
    assert torch.equal(load_images("svhn", "train").images, train)
    assert torch.equal(load_images("svhn", "test").images, test)
    tiny = load_images("tiny-images", "train")
    assert torch.equal(tiny.images, both)
    assert "the same for every split" in tiny.source


def test_true_cifar10_pixels_are_preferred_to_jpeg(data_folder):
    true, compressed = random_images(2, 3, 32)
    png(compressed, data_folder / "a.jpg")
    with zipfile.ZipFile(data_folder / "cifar10-test.zip", "w") as archive:
        archive.write(data_folder / "a.jpg", "airplane/a.jpg")
    assert "JPEG-compressed" in load_images("cifar10").source
    np.savez(data_folder / "cifar10-lossless-test.npz", images=true[None].numpy())
    found = load_images("cifar10")
    assert torch.equal(found.images, true[None])
    assert "cifar10-lossless-test.npz" in found.source


def test_folders_are_searched_in_order(tmp_path, monkeypatch):
    for i, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "mnist-test.npz", images=np.full((1, 32, 32), i, dtype=np.uint8))
    np.savez(tmp_path / "two" / "kmnist-test.npz", images=np.full((1, 32, 32), 1, dtype=np.uint8))
    monkeypatch.setenv("OODKIT_DATA", os.pathsep.join(str(tmp_path / f) for f in ("one", "two")))
    assert load_images("mnist").images.unique().tolist() == [0]
    assert load_images("kmnist").images.unique().tolist() == [1]


# --- what is not there --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kmnist", ("kmnist-test.npz", "KMNIST/raw/t10k-images-idx3-ubyte", "--download", "OODKIT_DATA")),
        ("svhn", ("test_32x32.mat", "--download")),
        ("notmnist", ("notMNIST_small",)),
        ("lsun", ("lsun/test", "LMDB")),
        ("cifar10", ("cifar10-lossless-test.npz", "cifar-10-batches-py/test_batch")),
        ("celeba", ("celeba/img_align_celeba",)),
    ],
)
def test_a_set_that_is_not_there_says_what_was_looked_for_where(name, words, data_folder):
    with pytest.raises(DataNotFoundError) as caught:
        load_images(name)
    for word in (*words, str(data_folder)):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_data_folder_that_does_not_exist_is_said_so(tmp_path, monkeypatch):
    monkeypatch.setenv("OODKIT_DATA", str(tmp_path / "mistyped"))
    with pytest.raises(DataNotFoundError, match=r"mistyped \(no such folder\)"):
        load_images("svhn")


def test_the_hooks_import_nothing_heavy():
    code = "import sys, oodkit_datasets.plugin; print({'torch', 'numpy', 'sklearn', 'PIL'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert run.stdout.strip() == "set()"


# --- the real sets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split", "count", "channels"),
    [
        ("fashion-mnist", "test", 10_000, 1),
        ("mnist", "test", 10_000, 1),
        ("notmnist", "test", 10_000, 1),
        ("omniglot", "test", 5_840, 1),
        ("cifar10", "test", 1_017, 3),
        ("cifar10", "train", 5_085, 3),
        ("rendered-digits", "test", 5_000, 3),
    ],
)
@pytest.mark.usefixtures("real_data")
def test_real_sets(name, split, count, channels):
    found = load_images(name, split)
    assert found.images.shape == (count, channels, 32, 32)
    assert found.skipped == ()


@pytest.mark.usefixtures("real_data")
def test_colour_for_a_grey_model_is_what_pil_makes_of_it():
    colour, grey = (load_images("cifar10", limit=5, image_shape=(c, 32, 32)).images for c in (3, 1))
    for before, after in zip(colour, grey, strict=True):
        expected = np.asarray(Image.fromarray(before.permute(1, 2, 0).contiguous().numpy()).convert("L"))
        assert np.array_equal(after[0].numpy(), expected)
