"""What would take too much memory is refused by what its header says, and before the memory is taken."""

import copy
import gzip
import io
import socket
import struct
import subprocess
import sys
import threading
import tracemalloc
import urllib.request
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import oodkit_datasets.download
from oodkit import ImageError, load_images, pictures
from oodkit_datasets import svhn

HANGS = 300  # seconds after which a program has hung, on any machine


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


def test_large_pictures_are_decoded_one_at_a_time_and_small_ones_beside_each_other(tmp_path, monkeypatch):
    """Large by what they are, by what they become on their way, or by their file; on any number of cores."""
    monkeypatch.setattr(pictures.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(pictures, "SMALL_PIXELS", 500)
    monkeypatch.setattr(pictures, "SMALL_BYTES", 5000)
    prepare, threads, two_at_a_time = pictures.prepare, {}, threading.Barrier(2)

    def watched(name, *how):
        threads[name] = threading.get_ident()
        if name.startswith("small"):
            two_at_a_time.wait(HANGS / 5)
        return prepare(name, *how)

    monkeypatch.setattr(pictures, "prepare", watched)
    for i in range(6):
        save(tmp_path / f"small{i}.png", Image.new("L", (10, 10), i))
        save(tmp_path / f"large{i}.png", Image.new("L", (25, 25), i))
        save(tmp_path / f"long{i}.png", Image.new("L", (200, 1), i))  # 3,200 pixels of 4 rows
        save(tmp_path / f"trailing{i}.png", Image.new("L", (10, 10), i), bytes(5000))
    for source in (tmp_path, packed(tmp_path)):
        threads.clear()
        images = load_images(source, image_shape=(1, 4, 4))
        assert images.images[:, 0, 0, 0].tolist() == [*range(6)] * 4
        one = {thread for name, thread in threads.items() if not name.startswith("small")}
        assert len(one) == 1 and one.isdisjoint({threads[f"small{i}.png"] for i in range(6)})


def save(path, picture, trailing=b""):
    picture.save(path)
    with path.open("ab") as file:
        file.write(trailing)


def packed(folder):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    return path


READS = """
import sys
from pathlib import Path
from oodkit import load_images, pictures

def memory(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field)) / 1024

pictures.os.cpu_count = lambda: 8
load_images("digits", limit=2)  # what is imported late
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
images = load_images(sys.argv[1], image_shape=(1, 32, 32), crop=sys.argv[2] == "crop")
print(len(images), memory("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("size", "crop", "most"),
    [
        ((5000, 4000), "crop", 150),  # of 20 megapixels: 5 bytes for each, grey and colour
        ((40_000, 1), "crop", 250),  # 41 megapixels where they are 32 rows
        ((1, 2_400_000), "squash", 250),  # 77 where they are 32 columns
        pytest.param((8900, 8900), "crop", 450, marks=pytest.mark.long),  # docs/security.md
    ],
)
def test_eight_threads_take_little_more_memory_than_one_picture(size, crop, most, tmp_path):
    """Which glibc would multiply: it keeps what each thread has freed."""
    Image.linear_gradient("L").resize(size).convert("RGB").save(tmp_path / "0.png", compress_level=1)
    for i in range(1, 8):
        (tmp_path / f"{i}.png").hardlink_to(tmp_path / "0.png")
    command = [sys.executable, "-c", READS, str(tmp_path), crop]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=True)
    read, peak = ended.stdout.split()
    assert int(read) == 8 and float(peak) < most


@pytest.mark.parametrize(("size", "crop"), [((8_000_000, 1), True), ((1, 8_000_000), True), ((1, 8_000_000), False)])
def test_a_picture_that_becomes_too_large_on_its_way_is_refused(size, crop, tmp_path):
    Image.new("L", size).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="is too elongated to become 32x32"):
        load_images(tmp_path / "a.png", image_shape=(1, 32, 32), crop=crop)


# --- files of a few bytes, made to take hours or gigabytes ----------------------------------------------------------


def tiff(tags, content):
    """A TIFF of one directory, {tag: value} or pairs of them; a value None is where `content` begins."""
    entries = [*(tags.items() if isinstance(tags, dict) else tags)]
    place = 8 + 2 + 12 * len(entries) + 4
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, place if v is None else v) for tag, v in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(4) + content


def tiled(width, height):
    """A deflated TIFF of 16x16 pixels in one tile of this size."""
    content = zlib.compress(bytes(2**16))
    return {
        256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: width, 323: height, 324: None, 325: len(content),
    }, content  # fmt: skip


def test_a_tiff_whose_tile_is_far_larger_than_the_picture_is_refused(tmp_path):
    """A megabyte of it would be unpacked to gigabytes, in each of eight threads."""
    whole, content = tiled(256, 256)
    (tmp_path / "whole.tif").write_bytes(tiff(whole, content))
    large = {**whole, 322: 40_000, 323: 40_000}
    (tmp_path / "large.tif").write_bytes(tiff(large, content))
    twice = [*large.items(), (322, 256), (323, 256)]  # libtiff takes the first of two, Pillow the last
    (tmp_path / "twice.tif").write_bytes(tiff(twice, content))
    images = load_images(tmp_path)
    assert images.names == ("whole.tif",)
    assert images.skipped == tuple(
        f"{name}.tif: skipped, its tiles are 40000x40000, more than 80 megapixels." for name in ("large", "twice")
    )


def test_a_jpeg_of_thousands_of_scans_is_refused(tmp_path):
    """Each scan of a few hundred bytes goes over all of 80 megapixels."""
    file = io.BytesIO()
    Image.linear_gradient("L").save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    place = whole.rindex(b"\xff\xda")
    (tmp_path / "whole.jpg").write_bytes(whole + b"\xff\xda" * 1000)  # what follows the end is not looked at
    (tmp_path / "scans.jpg").write_bytes(whole[:place] + whole[place:-2] * 200 + whole[-2:])
    hidden = b"\xff\x01" + whole[place:-2]  # after a marker that has no length
    (tmp_path / "tem.jpg").write_bytes(whole[:-2] + hidden * 200 + whole[-2:])
    images = load_images(tmp_path)
    assert images.names == ("whole.jpg",)
    assert images.skipped == tuple(f"{name}.jpg: skipped, it has more than 100 scans." for name in ("scans", "tem"))


def test_pictures_whose_header_is_in_too_many_pieces_are_refused(tmp_path):
    """Where each piece of a few bytes is an object of Python, or is cut out of all that follows."""
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "GIF")
    place = file.getvalue().index(b",", 13)
    head, body = file.getvalue()[:place], file.getvalue()[place:]
    made = {
        "a.gif": head + b"!\xfe" + b"\xff" + bytes(255) + b"\0" + body,
        "comments.gif": head + b"!\xfe\x01a\0" * 100_000 + body,
        "blocks.gif": head + b"!\xfe" + b"\x02ab" * 100_000 + b"\0" + body,
        "header.pgm": b"P5 #" + b"a" * 200_000 + b"\n8 8 255\n" + bytes(64),
        "plain.pgm": b"P2 8 8 255 # one\n" + b"7 " * 64,
        "lines.pgm": b"P2 8 8 255\n" + b"#a\n" * 100_000 + b"7 " * 64,
    }
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    images = load_images(tmp_path)
    assert images.names == ("a.gif", "plain.pgm")
    reasons = {line.partition(":")[0]: line.rpartition(", ")[2] for line in images.skipped}
    assert reasons == {
        **dict.fromkeys(["blocks.gif", "comments.gif", "header.pgm"], "its header is in more than 100,000 pieces."),
        "lines.pgm": "it has more than 1,000 comments.",
    }


def test_a_zip_whose_members_lie_over_each_other_is_refused(tmp_path):
    """One body of 200 KB that unpacks to 200 MiB, under thousands of names."""
    picture = io.BytesIO()
    Image.linear_gradient("L").save(picture, "PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("0.png", picture.getvalue())
        for i in range(1, 5):
            again = copy.copy(archive.infolist()[0])
            again.filename = f"{i}.png"
            archive.filelist.append(again)
    with pytest.raises(ImageError, match=r"a\.zip: its files lie over each other, as in a zip bomb"):
        load_images(tmp_path / "a.zip")


def test_memory_for_pictures_is_theirs_once(tmp_path):
    """Not once as they come and once more all together."""
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "0.png")
    for i in range(1, 2000):
        (tmp_path / f"{i}.png").hardlink_to(tmp_path / "0.png")
    code = READS.replace(', image_shape=(1, 32, 32), crop=sys.argv[2] == "crop"', "")
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=HANGS)
    read, peak = ended.stdout.split()
    assert int(read) == 2000 and float(peak) < 1.3 * 2000 * 3 / 16


def test_a_server_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(oodkit_datasets.download, "SILENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, oodkit_datasets.download._https_only():
        with pytest.raises(OSError, match="timed out"):
            urllib.request.urlopen(f"https://127.0.0.1:{silent.getsockname()[1]}/file")
