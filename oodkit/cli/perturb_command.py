"""`oodkit perturb`: look at the perturbations."""

import argparse
import io
from pathlib import Path

from oodkit.cli.output import say, shown
from oodkit.cli.parser import seed

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  oodkit perturb
  oodkit perturb --id fashion-mnist --count 8 --out sheet.png
  oodkit perturb --id my-pictures/ --resize

Pictures given by path are drawn as they are, all of one size; --resize brings them to 32x32. What cannot
be read is named on stderr, and the exit code is 1."""
SIDE = 32  # what the paper perturbs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--id", default="digits", help="a data set's name (its test images), or a path [digits]")
    parser.add_argument("--count", type=int, default=6, help="images, a row each [6]")
    parser.add_argument("--seed", type=seed, default=0, help="of the choice of images, and of the random values [0]")
    parser.add_argument("--resize", action="store_true", help="convert pictures given by path to 32x32")
    parser.add_argument(
        "--out", type=Path, default=Path("perturbations.png"), help="the PNG file to write [perturbations.png]"
    )


def run(args: argparse.Namespace) -> int:
    """Draw the contact sheet and print its path."""
    from oodkit.artifact import write_atomically
    from oodkit.contact_sheet import contact_sheet
    from oodkit.loading import load_images

    shape = (3, SIDE, SIDE) if args.resize else None
    loaded = load_images(args.id, split="test", limit=args.count, seed=args.seed, image_shape=shape)
    for sentence in loaded.skipped:
        say(f"oodkit: {sentence}")
    images = loaded.images
    if (images == images[:, :1]).all():
        images = images[:, :1]  # grey pictures have a strength of their own
    sheet = contact_sheet(images, args.seed)
    png = io.BytesIO()
    sheet.save(png, format="PNG")
    write_atomically(args.out, png.getvalue())
    print(shown(str(args.out)))
    return 1 if loaded.skipped else 0
