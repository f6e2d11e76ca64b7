"""From picture files, which nobody vouches for, to uint8 `(C, H, W)`: decode, prepare, stack.

Colour is converted first and at full size, then the picture is resized, as in the code of Choi et al. 2021:
PIL "L" for a grey model; PIL bilinear; where the proportions differ, the shorter side and then a centre crop.
A grey picture for a colour model is repeated to three channels at the end, which gives the same as doing it
first.
"""

import io
import os
import warnings
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from oodkit.errors import ImageError, in_one_line
from oodkit.images import ImageSet, Shape, draw_indices
from oodkit.picture_files import SUFFIXES, PictureFiles, open_pictures
from oodkit.picture_limits import MAX_PIXELS, open_picture, tile_pixels

__all__ = ["Prepared", "Refused", "Stack", "load_pictures", "prepare", "quiet_pillow", "stack"]

Pixels: TypeAlias = NDArray[np.uint8]
Way: TypeAlias = tuple["Plan", str, int]  # how pictures came to be: their plan, format and channels

# Several of up to this size are decoded at a time, a camera's 12 megapixels among them; larger ones one by one.
SMALL_PIXELS, SMALL_BYTES = 12_500_000, 32 * 2**20
MAX_SET_BYTES = 16 * 2**30  # of all images together
JPEG = "JPEG of quality "  # then libjpeg's number
THREADS = 8  # that decode small pictures, at most
AHEAD = 64  # pictures that are decoded before those in front of them are taken


@dataclass(frozen=True)
class Plan:
    """What happens to a picture of one mode and size."""

    grey: bool = False
    size: tuple[int, int] | None = None  # (width, height), as PIL has it
    box: tuple[int, int, int, int] | None = None
    repeat: bool = False
    pixels: int = 0  # of the picture, or of a larger one that it is on its way
    steps: dict[str, str] = field(default_factory=dict, hash=False)  # verb -> detail, in order


@dataclass(frozen=True)
class Prepared:
    """One picture that is ready: uint8 (C, H, W)."""

    name: str
    pixels: Pixels
    plan: Plan
    format: str = ""  # "PNG", "JPEG of quality 75"; empty where there was no file


@dataclass(frozen=True)
class Refused:
    """One picture that cannot be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Stack:
    """Pictures of one shape: uint8 (N, C, H, W), the places that they had, and those that were left out."""

    images: Tensor
    kept: Tensor  # int64, (N,)
    steps: tuple[str, ...]
    skipped: tuple[str, ...]


# --- one picture --------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def plan(mode: str, height: int, width: int, image_shape: Shape | None, crop: bool) -> Plan:
    """Return how a picture of PIL `mode` and this size gets to `image_shape`; without one, to 8 bits only.

    Raises:
        ImageError: it would become too large on its way.
    """
    steps = {}
    if mode.startswith("I"):
        steps["8 bits"] = "of 16"
    elif mode not in ("1", "L", "RGB"):
        steps["PIL RGB"] = f"of {mode}"
    if image_shape is None:
        return Plan(pixels=height * width, steps=steps)
    channels, to_height, to_width = image_shape
    is_grey = mode in ("1", "L", "LA") or mode.startswith("I")
    if not is_grey and channels == 1:
        steps["grey (PIL L)"] = ""
    target = f"{to_height}x{to_width}"
    size, box = _resize_and_crop(height, width, to_height, to_width) if crop else ((to_width, to_height), None)
    resized = size[0] * max(height, size[1])  # PIL changes the width first: of all rows
    if resized > MAX_PIXELS:
        raise ImageError(f"{height}x{width} is too elongated to become {target}")
    if size != (width, height):
        steps["bilinear"] = f"{height}x{width} -> {size[1]}x{size[0]}"
    if box:
        steps["centre crop"] = f"{size[1]}x{size[0]} -> {target}"
    if is_grey and channels == 3:
        steps["repeat"] = "1 -> 3 channels"
    size_if_new, pixels = size if "bilinear" in steps else None, max(height * width, resized)
    return Plan("grey (PIL L)" in steps, size_if_new, box, "repeat" in steps, pixels, steps)


def _resize_and_crop(
    height: int, width: int, to_height: int, to_width: int
) -> tuple[tuple[int, int], tuple[int, int, int, int] | None]:
    # PIL size and crop box, rounded as torchvision does it (`Resize(int)`, `CenterCrop`).
    if width * to_height >= height * to_width:
        size = (to_height * width // height, to_height)
    else:
        size = (to_width, to_width * height // width)
    if size == (to_width, to_height):
        return size, None
    left, top = round((size[0] - to_width) / 2), round((size[1] - to_height) / 2)
    return size, (left, top, left + to_width, top + to_height)


def prepare(name: str, picture: Image.Image, image_shape: Shape | None, crop: bool) -> Prepared | Refused:
    """Return a PIL picture as uint8 (C, H, W) of `image_shape`, or why it cannot be."""
    try:
        if picture.width * picture.height > MAX_PIXELS:
            return Refused(name, f"{picture.width}x{picture.height} is more than {MAX_PIXELS // 10**6} megapixels")
        how = plan(picture.mode, picture.height, picture.width, image_shape, crop)
        return Prepared(name, _apply(how, picture), how, _format(picture))
    except Exception as error:  # untrusted bytes: Pillow's decoders raise nearly anything
        return Refused(name, str(error) or type(error).__name__)


def _format(picture: Image.Image) -> str:
    sums = _table_sums(picture)
    return f"{JPEG}{_quality(sums[0])}" if sums else picture.format or ""


def _table_sums(picture: Image.Image) -> list[int]:
    """Return the sums of a JPEG file's quantisation tables, luminance first; of other files, none."""
    tables: dict[int, list[int]] = getattr(picture, "quantization", {})
    return [sum(table) for table in tables.values()]


@lru_cache(maxsize=256)
def _quality(total: int) -> int:
    """Return the quality, 1..100, at which libjpeg's table for luminance has the sum nearest to `total`."""
    return min(range(1, 101), key=lambda quality: abs(_sums()[quality - 1] - total))


@lru_cache(maxsize=1)
def _sums() -> list[int]:
    made = []
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG", quality=quality)
        with Image.open(file) as picture:
            made += _table_sums(picture)
    return made


def _apply(how: Plan, picture: Image.Image) -> Pixels:
    picture = _eight_bits(picture)
    if how.grey:
        picture = picture.convert("L")
    if how.size:
        picture = picture.resize(how.size, Image.Resampling.BILINEAR)
    if how.box:
        picture = picture.crop(how.box)
    pixels = np.asarray(picture)  # (H, W) or (H, W, 3)
    pixels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
    return np.repeat(pixels, 3, axis=0) if how.repeat else pixels


def _eight_bits(picture: Image.Image) -> Image.Image:
    # Mode L or RGB; PIL's own conversion would clip 16 bits instead of scaling them.
    if picture.mode in ("L", "RGB"):
        return picture
    if picture.mode in ("1", "LA"):
        return picture.convert("L")
    if picture.mode == "F":
        raise ImageError("its pixels are floats; save it with 8 bits")
    if picture.mode.startswith("I"):
        wide = np.asarray(picture).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ImageError("its pixels have 32 bits; save it with 8")
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    return picture.convert("RGB")


# --- many pictures ------------------------------------------------------------------------------------------


def stack(name: str, prepared: Iterable[Prepared | Refused], image_shape: Shape | None, total: int) -> Stack:
    """Return what could be read of `total` pictures as one batch; grey ones among colour ones are repeated.

    Raises:
        ImageError: not one can be read, they differ in size, together they are too large, or `image_shape` is
            neither grey nor colour.
    """
    if image_shape is not None:
        if image_shape[0] not in (1, 3):
            raise ImageError(
                f"{name}: pictures become grey (1 channel) or colour (3), not {image_shape[0]} channels; "
                "change image_shape."
            )
        _check_memory(name, total, image_shape)
    images: Pixels = np.empty((0, 1, 0, 0), np.uint8)
    first: Prepared | None = None
    kept: list[int] = []
    ways: set[Way] = set()
    refused: list[Refused] = []
    for i, one in enumerate(prepared):
        if isinstance(one, Refused):
            refused.append(one)
            continue
        _check_memory(name, max(total, len(kept) + 1), one.pixels.shape)  # how many a stream gives is not known before
        first = first or one
        if one.pixels.shape[1:] != first.pixels.shape[1:]:
            raise ImageError(
                f"{name}: pictures differ in size ({_size_of(first)}, {_size_of(one)}); "
                "say which size you want with image_shape=(C, H, W), or --resize."
            )
        images = _with_room(images, len(kept), total, one.pixels.shape)
        images[len(kept)] = one.pixels  # one grey channel broadcasts to three
        ways.add((one.plan, one.format, one.pixels.shape[0]))
        kept.append(i)
    skipped = tuple(f"{in_one_line(r.name)}: skipped, {in_one_line(r.reason)}." for r in refused)
    if not kept:
        if not refused:
            raise ImageError(f"{name}: no picture can be read; there are none.")
        reason = f"{in_one_line(refused[0].name)}: {in_one_line(refused[0].reason)}."
        alone = refused[0].name == name  # a picture that is no folder's
        raise ImageError(reason if alone else f"{name}: no picture can be read; the first is {reason}")
    return Stack(torch.from_numpy(images[: len(kept)]), torch.tensor(kept), _steps(ways, images.shape[1]), skipped)


def _with_room(images: Pixels, used: int, total: int, shape: tuple[int, ...]) -> Pixels:
    """Return `images`, or a copy of its first `used`, with room for one more of `shape` (C, H, W), grey or colour."""
    channels = max(images.shape[1], shape[0])
    room = len(images) if used < len(images) else max(total, 2 * used)
    if (room, channels) == images.shape[:2]:
        return images
    copy = np.empty((room, channels, *shape[1:]), np.uint8)  # takes memory where it is written to
    if used:
        copy[:used] = images[:used]
    return copy


def _size_of(one: Prepared) -> str:
    return f"{in_one_line(one.name)} is {one.pixels.shape[1]}x{one.pixels.shape[2]}"


def _check_memory(name: str, total: int, shape: Sequence[int]) -> None:
    needed = total * int(np.prod(shape, dtype=np.float64))
    if needed > MAX_SET_BYTES:
        raise ImageError(
            f"{name}: {total} images of {'x'.join(map(str, shape))} would take {needed / 2**30:.0f} GiB; "
            "ask for fewer with limit, or for smaller ones with image_shape."
        )


def _steps(ways: Collection[Way], channels: int) -> tuple[str, ...]:
    """Return what was done, in order, in as many words for ten thousand pictures as for one."""
    formats = sorted({form for _, form, _ in ways} - {""})
    if len(jpeg := [text for text in formats if text.startswith(JPEG)]) > 1:
        formats = sorted({*formats} - {*jpeg} | {"JPEG of various quality"})
    steps = [f"decoded from {', '.join(formats)}"] if formats else []
    plans = {how for how, _, _ in ways}
    for verb in ("8 bits", "PIL RGB", "grey (PIL L)", "bilinear", "centre crop", "repeat"):
        details = {p.steps[verb] for p in plans if verb in p.steps}
        if len(details) > 1:
            target = {d.rpartition(" -> ")[2] for d in details}
            details = {f"various sizes -> {target.pop() if len(target) == 1 else 'crop size'}"}
            if verb == "PIL RGB":
                details = {"of various modes"}
        where = "" if all(verb in p.steps for p in plans) else " where needed"
        steps += [f"{verb} {detail}".rstrip() + where for detail in details]
    if any(own != channels for _, _, own in ways):
        steps.append("repeat 1 -> 3 channels where needed")
    return tuple(steps)


# --- files --------------------------------------------------------------------------------------------------


def load_pictures(
    path: Path | Sequence[Path],
    split: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    image_shape: Shape | None = None,
    crop: bool = True,
) -> ImageSet:
    """Return the pictures of a folder, a `.zip`, one file or a list of files; damaged ones are skipped.

    A folder or `.zip` with `train` or `test` gives the one that `split` names; folders within are classes.

    Raises:
        ImageError: no picture at all, none that can be read, or several sizes and no `image_shape`.
    """
    name = path.name if isinstance(path, Path) else f"{len(path)} pictures"
    source = str(path) if isinstance(path, Path) else ", ".join(map(str, path[:3])) + (", …" if len(path) > 3 else "")
    with ExitStack() as opened:
        files = open_pictures(path, split, opened)
        if not files.names:
            raise ImageError(f"{source}: there are no pictures ({' '.join(sorted(SUFFIXES))}).")
        chosen = draw_indices(len(files.names), limit, seed)
        opened.enter_context(quiet_pillow())
        prepared = _decode(files, chosen.tolist(), image_shape, crop)
        made = stack(name, prepared, image_shape, len(chosen))
    labels = files.labels()
    if labels is not None:
        labels = labels[chosen[made.kept]]
    names = tuple(files.names[i] for i in chosen[made.kept].tolist())
    return ImageSet(name, split, made.images, labels, source, made.steps, made.skipped, names)


def _decode(
    files: PictureFiles, indices: list[int], image_shape: Shape | None, crop: bool
) -> Iterator[Prepared | Refused]:
    def decode(index: int, alone: ThreadPoolExecutor | None) -> Prepared | Refused:
        # One that is not small is made by `alone`, where that is given.
        name = files.names[index]
        try:
            if alone is None or files.size(index) <= SMALL_BYTES:
                content = files.read(index)
                with open_picture(content) as picture:
                    how = plan(picture.mode, picture.height, picture.width, image_shape, crop)
                    if alone is None or max(how.pixels, tile_pixels(content)) <= SMALL_PIXELS:
                        return prepare(name, picture, image_shape, crop)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            return Refused(name, f"it has more than {MAX_PIXELS // 10**6} megapixels")
        except UnidentifiedImageError:
            return Refused(name, "it is not a picture, or damaged")
        except Exception as error:  # untrusted bytes: Pillow and zipfile raise nearly anything
            return Refused(name, str(error) or type(error).__name__)
        return alone.submit(decode, index, None).result()

    # `alone` is one thread, not a lock for all: glibc keeps what a thread has freed, and would do so for each of them.
    with ThreadPoolExecutor(1) as alone, ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        coming: deque[Future[Prepared | Refused]] = deque()
        try:
            for index in indices:
                coming.append(pool.submit(decode, index, alone))
                if len(coming) > AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:  # an error, Ctrl-C: none is begun any more
            for one in coming:
                one.cancel()


@contextmanager
def quiet_pillow() -> Generator[None]:
    """Make Pillow's warning of a decompression bomb an error, and keep its other remarks from stderr."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
