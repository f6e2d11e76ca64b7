"""`oodkit perturb`: look at the perturbations."""

import argparse
import io
from pathlib import Path

from oodkit.cli.parser import seed

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  oodkit perturb
  oodkit perturb --id fashion-mnist --count 8 --out sheet.png
  oodkit perturb --id my-pictures/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--id", default="digits", help="a data set's name (its test images), or a path [digits]")
    parser.add_argument("--count", type=int, default=6, help="images, a row each [6]")
    parser.add_argument("--seed", type=seed, default=0, help="of the choice of images, and of the random values [0]")
    parser.add_argument(
        "--out", type=Path, default=Path("perturbations.png"), help="the PNG file to write [perturbations.png]"
    )


def run(args: argparse.Namespace) -> int:
    """Draw the contact sheet and print its path."""
    from oodkit.artifact import write_atomically
    from oodkit.contact_sheet import contact_sheet
    from oodkit.loading import load_images

    images = load_images(args.id, split="test", limit=args.count, seed=args.seed)
    sheet = contact_sheet(images.images, args.seed)
    png = io.BytesIO()
    sheet.save(png, format="PNG")
    write_atomically(args.out, png.getvalue())
    print(args.out)
    return 0
