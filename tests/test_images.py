"""`load_images` from arrays, tensors, folders, archives and data sets, and its conversions against PIL."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from samples import Items, encoded, named_pngs, pil, random_images, tensor, write_folder, write_zip
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from oodkit import DataNotFoundError, ImageError, ImageSet, load_images

BILINEAR = Image.Resampling.BILINEAR
few = settings(max_examples=25, deadline=None)


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


@pytest.mark.parametrize(
    "labels",
    [
        [3.0, 1.0, 0.0],
        list(torch.tensor([[3.0], [1.0], [0.0]])),
        list(np.array([[3], [1], [0]], np.uint8)),
        [np.int64(3), np.int64(1), np.int64(0)],
    ],
)
def test_whole_numbers_are_labels_in_whatever_form(labels):
    x = random_images(3)
    assert load_images(Items(list(zip(x, labels, strict=True)))).labels.tolist() == [3, 1, 0]
    assert load_images(DataLoader(Items(list(zip(x, labels, strict=True))), batch_size=2)).labels.tolist() == [3, 1, 0]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["cat", "dog", "cat"], "image 0 has 'cat'"),
        ([0, 1, 1.5], "image 2 has 1.5"),
        ([0, float("nan"), 1], "image 1 has nan"),
        ([0, 2**63, 1], "image 1 has 9223372036854775808"),
        ([2, None, 1], "image 1 has none"),
        (list(torch.zeros(3, 40)), r"image 0 has a Tensor of shape \(40,\)"),
        ([{"boxes": []}] * 3, "image 0 has a dict"),
    ],
)
def test_labels_of_a_data_set_that_are_no_whole_numbers_are_left_out_with_a_word(labels, words):
    x = random_images(3)
    with pytest.warns(UserWarning, match=f"^Items: {words}; labels are whole numbers, so all are left out"):
        loaded = load_images(Items(list(zip(x, labels, strict=True))))
    assert loaded.labels is None and len(loaded) == 3


@pytest.mark.parametrize("labelled", [True, False])
def test_a_loader_that_makes_no_batches(labelled):
    x, labels = random_images(3, channels=3), torch.tensor([2, 0, 1])
    loaded = load_images(DataLoader(TensorDataset(x, labels) if labelled else Items(list(x)), batch_size=None))
    assert torch.equal(loaded.images, x)
    assert loaded.labels.tolist() == [2, 0, 1] if labelled else loaded.labels is None


def test_a_loader_may_give_targets_of_any_kind_beside_its_images():
    x, boxes = random_images(3), [{"box": torch.zeros(4)}] * 3
    with pytest.warns(UserWarning, match="image 0 has a dict"):
        loaded = load_images(DataLoader(Items(list(zip(x, boxes, strict=True))), batch_size=3))
    assert loaded.labels is None and len(loaded) == 3


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0.0, 1.0, 2.0], r"labels are float64; save whole numbers, which labels\.astype\('int64'\) makes of them"),
        (["cat", "dog", "cat"], r"labels are <U3; save whole numbers, which numpy\.unique\(labels, return_inverse"),
    ],
)
def test_labels_that_are_no_whole_numbers_are_refused_rather_than_left_out(labels, words, tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 8, 8), np.uint8), labels=labels)
    with pytest.raises(ImageError, match=words):
        load_images(tmp_path / "a.npz")


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
