"""A contact sheet of the perturbations: figures 2 and 11 of Choi et al. 2021, arXiv:2106.07903.

A row for each image; a column for each perturbation at the paper's strength, and for three brightnesses.
"""

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from oodkit.perturbations import brightness, perturb

__all__ = ["contact_sheet"]

CELL = 128  # pixels of one image on the sheet
GAP = 10
HEAD = 44  # height of the column titles
PAGE, INK = (208, 213, 220), (30, 30, 30)  # neither black nor white, as images may be


def _columns(images: Tensor, seed: int) -> dict[str, Tensor]:
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
    made = _columns(images, seed)  # titles without Greek: Pillow's own font has none
    sheet = Image.new("RGB", (GAP + len(made) * (CELL + GAP), HEAD + len(images) * (CELL + GAP)), PAGE)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for x, (title, column) in enumerate(made.items()):
        left = GAP + x * (CELL + GAP)
        draw.multiline_text((left + CELL / 2, HEAD / 2), title, INK, font, anchor="mm", align="center")
        for y, image in enumerate(column):
            sheet.paste(_enlarged(image), (left, HEAD + y * (CELL + GAP)))
    return sheet


def _enlarged(image: Tensor) -> Image.Image:
    """Return one image, uint8 (C, H, W), grey or colour, as a square picture with its pixels visible."""
    pixels = image.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.NEAREST)
