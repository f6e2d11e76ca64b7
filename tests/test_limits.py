"""What would take too much memory is refused by what its header says, and before the memory is taken."""

import gzip
import socket
import struct
import threading
import time
import tracemalloc
import urllib.request

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import oodkit_datasets.download
from oodkit import ImageError, load_images, pictures
from oodkit_datasets import svhn


def sparse(path, shape, dtype):
    """A .npy file of zeros that takes no room on the disk."""
    with path.open("wb") as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
    return path


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((20 * 2**20, 32, 32), "u1", "an array of 20 GiB is too large"),
        ((2**18, 32, 32), "f8", "float64; oodkit takes uint8"),
    ],
)
def test_an_npy_file_is_refused_before_it_is_read(shape, dtype, words, tmp_path):
    path = sparse(tmp_path / "a.npy", shape, dtype)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=words):
            load_images(path)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_an_npy_file_that_ends_early_is_refused_before_memory_is_taken(tmp_path):
    path = sparse(tmp_path / "a.npy", (2**18, 32, 32), "u1")
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ImageError, match=r"it ends after 8\d\d of 268435456 bytes"):
        load_images(path)


def test_a_packed_idx_file_above_a_gibibyte_is_refused(tmp_path, monkeypatch):
    """3 MB of it would be 1.6 GB: a hundredfold is let through, and what is no larger than a GiB."""
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 1_600_000, 32, 32) + bytes(2**20)))
    monkeypatch.setenv("OODKIT_DATA", str(tmp_path))
    with pytest.raises(ImageError, match="its header asks for 1638400000 bytes"):
        load_images("mnist")


def test_a_mat_file_that_becomes_too_large_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(svhn, "LARGE", 2**20)
    monkeypatch.setenv("OODKIT_DATA", str(tmp_path))
    for held, words in (
        ({"X": np.zeros((32, 32, 3, 4000), np.uint8), "y": np.zeros((4000, 1))}, "X has 12288000 bytes"),
        ({"X": np.zeros((32, 32, 3, 1), np.uint8), "y": np.full((200, 1), "a", object)}, "y holds cell"),
    ):
        savemat(tmp_path / "test_32x32.mat", held, do_compression=True)
        with pytest.raises(ImageError, match=words):
            load_images("svhn")


def test_no_more_is_decoded_at_a_time_than_one_picture_may_have(tmp_path, monkeypatch):
    """On any number of cores."""
    monkeypatch.setattr(pictures.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 250)
    prepare, now, most, counting = pictures.prepare, 0, 0, threading.Lock()

    def counted(name, picture, *how):
        nonlocal now, most
        with counting:
            now += picture.width * picture.height
            most = max(most, now)
        time.sleep(0.02)
        with counting:
            now -= picture.width * picture.height
        return prepare(name, picture, *how)

    monkeypatch.setattr(pictures, "prepare", counted)
    for i in range(12):
        Image.new("L", (10, 10 if i % 4 else 25), i).save(tmp_path / f"{i:02}.png")
    images = load_images(tmp_path, image_shape=(1, 4, 4))
    assert images.images[:, 0, 0, 0].tolist() == list(range(12))
    assert 100 < most <= 250, "several at a time, and no more than fit"


def test_a_server_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(oodkit_datasets.download, "SILENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, oodkit_datasets.download._https_only():
        with pytest.raises(OSError, match="timed out"):
            urllib.request.urlopen(f"https://127.0.0.1:{silent.getsockname()[1]}/file")
