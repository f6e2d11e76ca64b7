"""`oodkit score PATH…`: one line per picture, as CSV or JSON."""

import argparse
import csv
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from oodkit.cli.naming import is_picture, path_of
from oodkit.cli.output import as_json, say, shown
from oodkit.errors import ImageError, OptionError, in_one_line

if TYPE_CHECKING:
    from torch import Tensor

    from oodkit.images import Shape

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  oodkit score picture.png folder/ --detector-file rose.oodkit > scores.csv
  oodkit score images.npz --detector-file rose.oodkit --json
  torchrun --standalone --nproc-per-node 2 -m oodkit score images.npz --detector-file rose.oodkit > scores.csv

Higher = more out-of-distribution. With a detector that `oodkit fit --calibration` wrote, each image's p-value
follows, and whether it is called OOD at the false-alarm rate --alpha. A folder or .zip is scored picture by
picture (path,score); the images of a .npz, .npy or named set are numbered (path,index,score). Pictures of
another size need --resize. What cannot be read is named on stderr, and the exit code is 1; with --strict the first one
ends the command with exit code 2."""

BATCH = 512  # pictures that are read before they are scored


@dataclass(frozen=True)
class Picture:
    """One image that is to be scored: uint8 (C, H, W)."""

    path: str
    index: int | None  # in a file of several
    pixels: "Tensor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="A picture, folder, .zip, .npz, .npy, or named set.")
    parser.add_argument(
        "--detector-file", "--detector", metavar="FILE", help="A detector that `oodkit fit` wrote. Needed."
    )
    parser.add_argument("--model", metavar="FILE.py:FUNCTION", help="The model, where it is your own; the file is run.")
    parser.add_argument("--resize", action="store_true", help="Convert pictures to the detector's size and channels.")
    parser.add_argument("--strict", action="store_true", help="Stop at a picture that cannot be read.")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N. Default: auto.")
    parser.add_argument("--batch-size", metavar="N", type=int, help="Images scored at a time.")
    parser.add_argument(
        "--alpha", metavar="RATE", type=float, help="False-alarm rate at which images are called OOD. Default: 0.05."
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON document instead of CSV.")


def run(args: argparse.Namespace) -> int:
    """Score and print.

    Raises:
        OptionError: no detector is given.
    """
    if args.detector_file is None:
        raise OptionError("score needs --detector-file FILE: a detector that `oodkit fit --out FILE` wrote.")

    import torch

    from oodkit.adapted import load_own_model
    from oodkit.calibration import check_alpha
    from oodkit.named_detectors import load_detector

    own = load_own_model(args.model, None, args.device) if args.model is not None else None
    detector = load_detector(args.detector_file, args.device, args.batch_size, model=own)
    if args.alpha is not None:
        check_alpha(args.alpha)
        if not detector.calibrated:
            raise OptionError(
                f"--alpha: {args.detector_file} is not calibrated; fit it again with `oodkit fit --calibration SET`, "
                "of in-distribution images that the model has not seen."
            )
        detector.alpha = args.alpha
    if detector.image_shape is None:  # cannot be: what is saved is fitted
        raise OptionError(f"{args.detector_file} does not say which images it takes; fit it again.")
    sources = [source for path in args.paths for source in _sources(path)]
    numbered = any(not is_picture(source) and Path(source).suffix.lower() != ".zip" for source in sources)
    problems: list[str] = []
    pictures = _read(sources, detector.image_shape, args.resize, args.strict, problems)
    rows = []
    writer = csv.writer(sys.stdout, lineterminator="\n")
    judged = ["p_value", "ood"] if detector.calibrated else []
    header = [] if args.json else [*(["path", "index"] if numbered else ["path"]), "score", *judged]
    while batch := list(islice(pictures, BATCH)):
        scores = detector.score(torch.stack([p.pixels for p in batch]))
        p_values = detector.p_value_of(scores).tolist() if detector.calibrated else [None] * len(batch)
        if header:  # only now: what cannot be scored at all prints nothing
            writer.writerow(header)
            header = []
        for picture, score, p_value in zip(batch, scores.tolist(), p_values, strict=True):
            verdict = {} if p_value is None else {"p_value": p_value, "ood": p_value <= detector.alpha}
            if args.json:
                index = {} if picture.index is None else {"index": picture.index}
                rows.append({"path": picture.path, **index, "score": score, **verdict})
            else:
                place = ["" if picture.index is None else picture.index] if numbered else []
                writer.writerow([shown(picture.path), *place, score, *verdict.values()])
    if args.json:
        print(as_json({"detector": detector.name, "scores": rows, "problems": problems}))
    for problem in problems:
        say(f"oodkit: {in_one_line(problem)}")
    return 1 if problems else 0


def _sources(path: str) -> Iterator[str]:
    """Yield the pictures of a folder, or the path itself.

    Raises:
        ImageError: a folder without pictures.
    """
    from oodkit.loading import load_images
    from oodkit.picture_files import SUFFIXES, list_pictures

    folder = Path(os.path.expanduser(path))  # of an unknown user, pathlib raises RuntimeError
    if not folder.is_dir():
        if not folder.exists():
            load_images(path, limit=1)  # a registered name, or else the error that says what is missing
        yield path
        return
    found = [str(folder / name) for name in list_pictures(folder)]
    if not found:
        raise ImageError(f"{path}: there are no pictures ({' '.join(sorted(SUFFIXES))}).")
    yield from found


def _read(sources: list[str], shape: "Shape", resize: bool, strict: bool, problems: list[str]) -> Iterator[Picture]:
    """Yield every image that can be read; of the others, add a sentence to `problems`.

    Raises:
        ImageError: not one can be read, or, where that is `strict`, any one cannot.
    """
    from oodkit.loading import load_images

    any_read = False
    for source in sources:
        try:
            images = load_images(source, image_shape=shape, resize=resize, strict=strict)
        except ImageError as error:
            # It begins with the file's own name, which another folder may have too.
            path, name = in_one_line(source), in_one_line(Path(source).name)
            sentence = f"{path}: {in_one_line(str(error)).removeprefix(f'{path}: ').removeprefix(f'{name}: ')}"
            if strict:
                raise ImageError(sentence) from error
            problems.append(sentence)
            continue
        any_read = True
        problems += images.skipped
        for index, pixels in enumerate(images.images):
            file = path_of(source, images, index)
            yield Picture(file or source, index if file is None else None, pixels)
    if not any_read:
        raise ImageError(" ".join(problems))
