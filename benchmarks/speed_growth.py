"""How the cost of a score grows: time against the count of operations, over a sweep, with the line that fits best.

    python benchmarks/speed_growth.py [--detector rose-ekfac] [--rounds 5] [--threads 2]

A VAE's width, its latent size and the number of images change, one at a time; the rounds take turns. Positions grow
with none of them: the VAE takes 32x32 images only.
"""

import argparse
import statistics
from datetime import date

import numpy as np
import torch
from speed import operations, random_images, seconds

import oodkit
from oodkit.device import device_name, resolve_device

SWEEP = [  # width, latent, images
    *((width, 100, 64) for width in (8, 16, 32, 64)),
    *((32, latent, 64) for latent in (25, 50, 200, 400)),
    *((32, 100, images) for images in (16, 128, 256)),
]
SHAPE = (1, 32, 32)


def main() -> None:
    """Print a row for each point of the sweep, and the line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--detector", default="rose-ekfac")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    points = []
    for width, latent, count in SWEEP:
        model = oodkit.create_model("vae", SHAPE, device=device, width=width, latent=latent)
        detector = oodkit.create_detector(args.detector, model, batch_size=64).fit(random_images(256, SHAPE, seed=1))
        images = random_images(count, SHAPE)
        points.append((detector, images, operations(detector.score, images)))
    taken: list[list[float]] = [[] for _ in points]
    for number in range(args.rounds + 1):
        for times, (detector, images, _) in zip(taken, points, strict=True):
            took = seconds(lambda d=detector, i=images: d.score(i), device)
            if number:  # the first round warms up
                times.append(took)
    operations_of_all = np.array([each * len(images) / 1e3 for _, images, each in points])
    medians = np.array([statistics.median(times) for times in taken])
    # relative errors count: the points span two orders of magnitude
    design = np.stack([np.ones_like(medians), operations_of_all], 1) / medians[:, None]
    (start, slope), *_ = np.linalg.lstsq(design, np.ones_like(medians), rcond=None)
    print(f"{args.detector}, {date.today()}, {device_name(device)}, torch {torch.__version__}, {args.rounds} rounds\n")
    print("| width | latent | images | MFLOP an image | ms | by the line |\n| --- | --- | --- | --- | --- | --- |")
    for (width, latent, count), (_, _, each), median, whole in zip(
        SWEEP, points, medians, operations_of_all, strict=True
    ):
        print(
            f"| {width} | {latent} | {count} | {each:.1f} | {1e3 * median:.0f} | {1e3 * (start + slope * whole):.0f} |"
        )
    print(f"\ntime = {1e3 * start:.0f} ms + {1e3 * slope:.2f} ms for each 10^9 operations ({1 / slope:.0f} GFLOP/s)")


if __name__ == "__main__":
    main()
