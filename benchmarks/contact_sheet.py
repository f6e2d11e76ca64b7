"""Draws a contact sheet of the perturbations: figures 2 and 11 of Choi et al. 2021, arXiv:2106.07903.

    python benchmarks/contact_sheet.py --id fashion-mnist --out sheet.png

A row for each image; a column for each perturbation at the paper's strength, and for three brightnesses.
"""

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import oodkit
from oodkit.perturbations import brightness, perturb

CELL = 128  # pixels of one image on the sheet
GAP = 10
HEAD = 44  # height of the column titles
PAGE, INK = (208, 213, 220), (30, 30, 30)  # neither black nor white, as images may be


def columns(images: Tensor, seed: int) -> dict[str, Tensor]:
    """Return the images under the title of each column, uint8 (N, C, H, W) each."""
    generator = torch.Generator().manual_seed(seed)
    mu = 0.3 if images.shape[1] == 1 else 0.2
    return {
        "original": images,
        "svd\nwithout 28": perturb(images, "svd", generator, 28),
        "dct\n28 kept": perturb(images, "dct", generator, 28),
        "gaussian blur\n3x3, sigma 0.8": perturb(images, "gaussian-blur", generator, 0.8),
        f"random\nmu {mu}": perturb(images, "random", generator, mu),
        **{f"brightness\nx {factor}": brightness(images, factor) for factor in (0.2, 0.6, 1.8)},
    }


def contact_sheet(images: Tensor, seed: int = 0) -> Image.Image:
    """Return the sheet of a few images, uint8 (N, C, H, W); `seed` is that of the random values."""
    made = columns(images, seed)  # titles without Greek: Pillow's own font has none
    sheet = Image.new("RGB", (GAP + len(made) * (CELL + GAP), HEAD + len(images) * (CELL + GAP)), PAGE)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for x, (title, column) in enumerate(made.items()):
        left = GAP + x * (CELL + GAP)
        draw.multiline_text((left + CELL / 2, HEAD / 2), title, INK, font, anchor="mm", align="center")
        for y, image in enumerate(column):
            sheet.paste(enlarged(image), (left, HEAD + y * (CELL + GAP)))
    return sheet


def enlarged(image: Tensor) -> Image.Image:
    """Return one image, uint8 (C, H, W), grey or colour, as a square picture with its pixels visible."""
    pixels = image.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.NEAREST)


def main() -> None:
    """Draw the sheet that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--id", default="digits", help="a data set's name, or a path; its test images")
    parser.add_argument("--count", type=int, default=6, help="rows")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of images, and of the random values")
    parser.add_argument("--out", type=Path, default=Path("perturbations.png"), help="the PNG file to write")
    arguments = parser.parse_args()
    images = oodkit.load_images(arguments.id, limit=arguments.count, seed=arguments.seed)
    contact_sheet(images.images, arguments.seed).save(arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    try:
        main()
    except oodkit.OodkitError as error:
        sys.exit(f"contact_sheet: {error}")
