"""How the cost of a score grows: time against the count of operations, over two sweeps, with the lines that fit best.

    python benchmarks/speed_growth.py [--detector rose-ekfac] [--rounds 5] [--threads 2]

A VAE's width, its latent size and the number of images change, one at a time. It takes 32x32 images only: positions
grow in a second sweep, with the side of what three convolutions of 32 and 64 channels look at. The rounds take turns.
What operations read and write is counted too, beside what copying a large tensor reaches (speed.py).
"""

import argparse
import statistics
from datetime import date

import numpy as np
import torch
from contenders import random_images, seconds
from speed import gigabytes, operations, traffic
from torch import Tensor, nn
from torch.nn import functional as F

import oodkit
from oodkit.device import device_name, resolve_device

VAES = [  # width, latent, images
    *((width, 100, 64) for width in (8, 16, 32, 64)),
    *((32, latent, 64) for latent in (25, 50, 200, 400)),
    *((32, 100, images) for images in (16, 128, 256)),
]
SIDES = (16, 24, 32, 48, 64, 96)
IMAGES = 64  # of each side


def convolutions(side: int, device: torch.device) -> oodkit.GenerativeModel:
    """Return a model of any side: how well each pixel is told from its surroundings, at half the resolution."""
    layers = [nn.Conv2d(1, 32, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()]
    module = nn.Sequential(*layers, nn.Conv2d(64, 1, 3, padding=1)).to(device)

    def log_prob(module: nn.Module, x: Tensor) -> Tensor:
        return -(module(x) - F.avg_pool2d(x, 2)).square().sum((1, 2, 3))

    return oodkit.adapt(module, log_prob=log_prob, image_shape=(1, side, side))


def sweep(
    title: str,
    named: dict[str, tuple[oodkit.GenerativeModel, int]],
    detector: str,
    rounds: int,
) -> None:
    """Print a row for each model and number of images, and the line."""
    points = []
    for model, count in named.values():
        fitted = oodkit.create_detector(detector, model, batch_size=64)
        fitted.fit(random_images(256, model.image_shape, seed=1))
        images = random_images(count, model.image_shape)
        points.append((fitted, images, operations(fitted.score, images), traffic(fitted.score, images)))
    taken: list[list[float]] = [[] for _ in points]
    for number in range(rounds + 1):
        for times, (fitted, images, *_) in zip(taken, points, strict=True):
            took = seconds(lambda d=fitted, i=images: d.score(i), fitted.device)
            if number:  # the first round warms up
                times.append(took)
    operations_of_all = np.array([each * len(images) / 1e3 for _, images, each, _ in points])
    medians = np.array([statistics.median(times) for times in taken])
    # relative errors count: the points span two orders of magnitude
    design = np.stack([np.ones_like(medians), operations_of_all], 1) / medians[:, None]
    (start, slope), *_ = np.linalg.lstsq(design, np.ones_like(medians), rcond=None)
    copying = gigabytes(points[0][0].device)
    heading = f"| {title} | MFLOP an image | ms | by the line | MB an image | of copying's {copying:.0f} GB/s |"
    print(f"{heading}\n|{' --- |' * (heading.count('|') - 1)}")
    for name, (_, images, each, moved), median, whole in zip(named, points, medians, operations_of_all, strict=True):
        share = moved * len(images) / 1e3 / median / copying
        numbers = f"{each:.1f} | {1e3 * median:.0f} | {1e3 * (start + slope * whole):.0f} | {moved:.1f} | {share:.0%}"
        print(f"| {name} | {numbers} |")
    print(f"\ntime = {1e3 * start:.0f} ms + {1e3 * slope:.2f} ms for each 10^9 operations ({1 / slope:.0f} GFLOP/s)\n")


def main() -> None:
    """Print both sweeps."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--detector", default="rose-ekfac")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    print(f"{args.detector}, {date.today()}, {device_name(device)}, torch {torch.__version__}, {args.rounds} rounds\n")
    vaes = {
        f"{width} | {latent} | {count}": (
            oodkit.create_model("vae", (1, 32, 32), device=device, width=width, latent=latent),
            count,
        )
        for width, latent, count in VAES
    }
    sweep("width | latent | images", vaes, args.detector, args.rounds)
    sides = {f"{side} | {(side // 2) ** 2}": (convolutions(side, device), IMAGES) for side in SIDES}
    sweep("side | positions", sides, args.detector, args.rounds)


if __name__ == "__main__":
    main()
