"""`oodkit explain IMAGE…`: what makes a picture look strange, as a table and a map."""

import argparse
from io import BytesIO
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oodkit.cli.naming import path_of
from oodkit.cli.output import as_json, results_console, say, shown
from oodkit.cli.parser import at_least_one
from oodkit.errors import ImageError, OptionError, PluginError

if TYPE_CHECKING:
    from torch import Tensor

    from oodkit.detector import Detector
    from oodkit.explanation import Number
    from oodkit.images import ImageSet, Shape

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  oodkit explain picture.png --detector-file plus.oodkit
  oodkit explain images.npz --limit 3 --detector-file plus.oodkit --out maps/
  oodkit explain photo.jpg --detector-file plus.oodkit --resize

Each number behind the score: how many standard deviations it lies from in-distribution images, and its share of the
score where the score is a sum. Pictures of another size need --resize. With --out, a picture of each image beside a
map: red is what raises the score. What cannot be read is named on stderr, and the exit code is 1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("paths", metavar="IMAGE", nargs="+", help="A picture, folder, .zip, .npz, .npy, or named set.")
    parser.add_argument("--detector-file", metavar="FILE", help="A detector that `oodkit fit` wrote. Needed.")
    parser.add_argument("--limit", metavar="N", type=int, default=10, help="Images of each path. Default: 10.")
    parser.add_argument("--resize", action="store_true", help="Convert pictures to the detector's size and channels.")
    parser.add_argument("--top", metavar="N", type=at_least_one, default=8, help="Numbers that are shown. Default: 8.")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="Where the maps go, one PNG for each image.")
    parser.add_argument("--patch", metavar="N", type=int, default=4, help="Side of a map's patches. Default: 4 pixels.")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N. Default: auto.")
    parser.add_argument("--json", action="store_true", help="Print one JSON document instead of tables.")


def run(args: argparse.Namespace) -> int:
    """Explain and print.

    Raises:
        OptionError: no detector is given, or a picture where the maps' folder belongs.
        ImageError: the folder for the maps cannot be made.
    """
    if args.detector_file is None:
        raise OptionError("explain needs --detector-file FILE: a detector that `oodkit fit --out FILE` wrote.")
    if args.out is not None and args.out.suffix.lower() == ".png" and not args.out.is_dir():
        raise OptionError(
            f"--out {args.out} must be a folder: it gets a PNG for each image; write --out {args.out.with_suffix('')}/."
        )

    from oodkit.named_detectors import load_detector

    detector = load_detector(args.detector_file, args.device)
    if args.out is not None:
        try:
            args.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(f"cannot make the folder {args.out}: {error.strerror}; choose another --out.") from error
    documents: list[dict[str, Any]] = []  # Any: what JSON can hold
    maps: set[Path] = set()
    any_skipped = False
    for path in args.paths:
        images, called = _load(path, args, detector.image_shape)
        for sentence in images.skipped:
            say(f"oodkit: {sentence}")
            any_skipped = True
        scores = detector.score(images).tolist()
        try:
            explanation = detector.explain(images)
        except PluginError as error:  # a map can be drawn all the same
            say(f"oodkit: {error}")
            explanation = None
        for index, ((file, place), score) in enumerate(zip(called, scores, strict=True)):
            document: dict[str, Any] = {  # Any: as above
                "image": file if place is None else f"{file}[{place}]",
                "score": score,
                "numbers": [] if explanation is None else [_number(n) for n in explanation.largest(index, args.top)],
            }
            if args.out is not None:
                drawn = _new_file(args.out, f"{Path(file).stem}-{place or 0}", maps)
                _write_map(detector, images.images[index], args.patch, drawn)
                document["map"] = str(drawn)
            documents.append(document)
            if not args.json:
                _print(document)
    if args.json:
        print(as_json({"detector": detector.name, "images": documents}))
    return 1 if any_skipped else 0


def _load(
    path: str, args: argparse.Namespace, shape: "Shape | None"
) -> tuple["ImageSet", list[tuple[str, int | None]]]:
    """Return up to --limit images of a path, and of each its file and, in a file of several, its place."""
    from oodkit.images import draw_indices
    from oodkit.loading import load_images

    images = load_images(path, limit=args.limit, image_shape=shape, resize=args.resize)
    files = [path_of(path, images, index) for index in range(len(images))]
    called: list[tuple[str, int | None]] = [(file, None) for file in files if file is not None]
    if called:
        return images, called
    images = load_images(path, image_shape=shape, resize=args.resize)  # all: a place among those drawn is no place
    drawn = draw_indices(len(images), args.limit, 0)
    return images.select(drawn), [(path, place) for place in drawn.tolist()]


def _new_file(folder: Path, stem: str, taken: set[Path]) -> Path:
    """Return a PNG file for the map of an image, another one for each image, and add it to `taken`."""
    files = chain([folder / f"{stem}.png"], (folder / f"{stem}-{number}.png" for number in count(2)))
    file = next(file for file in files if file not in taken)
    taken.add(file)
    return file


def _number(number: "Number") -> dict[str, str | float]:
    share = {} if number.share is None else {"share": number.share}
    return {"name": number.name, "z": number.z, **share}


def _print(document: dict[str, Any]) -> None:  # Any: what JSON can hold
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    numbers: list[dict[str, Any]] = document["numbers"]
    console = results_console()
    console.print(Text(f"{shown(document['image'])}: score {document['score']:.4g}", style="bold"))
    if numbers:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("number")
        table.add_column("deviations", justify="right")
        if "share" in numbers[0]:
            table.add_column("share of the score", justify="right")
        for number in numbers:
            share = [f"{number['share']:.0%}"] if "share" in number else []
            table.add_row(Text(shown(number["name"])), f"{number['z']:+.1f}", *share)
        console.print(table)
    if "map" in document:
        console.print(Text(f"map: {shown(document['map'])}\n"))


def _write_map(
    detector: "Detector[Any]", image: "Tensor", patch: int, file: Path
) -> None:  # Any: options of any detector
    from oodkit.artifact import write_atomically
    from oodkit.explanation import draw_map, occlusion_map

    data = BytesIO()
    draw_map(image, occlusion_map(detector, image, patch)).save(data, "PNG")
    write_atomically(file, data.getvalue())
