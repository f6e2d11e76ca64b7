"""Draw what `oodkit explain` draws for eight images: docs/explain.png.

    python benchmarks/explanations.py docs/explain.png

It needs the authors' weights (OODKIT_REFERENCE) and the real sets (OODKIT_DATA); a minute on one core.
"""

import sys

import torch
from PIL import Image
from reference import reference_vae
from torch import Tensor
from torch.nn import functional as F

import oodkit
from oodkit.explanation import draw_map, occlusion_map

SHAPE = (1, 32, 32)
GAP = 20


def images_of(name: str, count: int) -> Tensor:
    return oodkit.load_images(name, "test", limit=count, seed=9, image_shape=SHAPE).images


def main() -> None:
    train = oodkit.load_images("fashion-mnist", "train", limit=1200, image_shape=SHAPE)
    detector = oodkit.create_detector("statistics-density", reference_vae("fashion-mnist-n32-z100-seed1")).fit(train)
    noise, digit, sole = images_of("fashion-mnist", 3)
    digits = images_of("mnist", 2)
    noise[:, 16:24, 12:20] = torch.randint(256, (1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    digit[:, 2:14, 2:14] = F.interpolate(digits[:1].double(), size=12)[0].to(torch.uint8)
    sole[:, 20:26] = 255 - sole[:, 20:26]
    images = [noise, digit, sole, *digits, *images_of("cifar10", 2), *images_of("notmnist", 1)]
    drawings = [draw_map(image, occlusion_map(detector, image), side=160) for image in images]
    width, height = drawings[0].size
    sheet = Image.new("RGB", (2 * width + GAP, len(drawings) // 2 * (height + GAP)), "white")
    for i, drawing in enumerate(drawings):
        sheet.paste(drawing, (i % 2 * (width + GAP), i // 2 * (height + GAP)))
    sheet.save(sys.argv[1])


if __name__ == "__main__":
    main()
