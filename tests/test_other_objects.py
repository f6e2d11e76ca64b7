"""`load_images` from other people's objects: lists of pictures, Hugging Face and torch data sets."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import oodkit
from oodkit import DataNotFoundError, ImageError, load_images


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
