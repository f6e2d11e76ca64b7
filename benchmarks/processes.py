"""How much faster several processes fit and score than one, each with one thread and its share of the images.

    python benchmarks/processes.py [--processes 2] [--images 2000] [--rounds 3] [--detector rose-ekfac]

`torchrun` starts them on this machine (Gloo, CPU), in turns with a single one. The VAE has the paper's size for
Fashion-MNIST and no training: time does not depend on the weights. EKFAC's eigendecompositions, which every process
makes for itself, are part of a fit.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from datetime import date

import torch
from contenders import random_images

import oodkit
from oodkit.distributed import first_process

SHAPE = (1, 32, 32)


def work(detector_name: str, count: int) -> None:
    """Fit and score as one of the processes, and let the first of them print the seconds of both."""
    torch.set_num_threads(1)
    model = oodkit.create_model("vae", SHAPE, device="cpu")
    images = random_images(count, SHAPE)
    with oodkit.shared_work():
        oodkit.create_detector(detector_name, model).fit(images[:256]).score(images[:256])  # warms up
        start = time.perf_counter()
        detector = oodkit.create_detector(detector_name, model).fit(images)
        fitted = time.perf_counter()
        detector.score(images)
        if first_process():
            print(json.dumps({"fit": fitted - start, "score": time.perf_counter() - fitted}))


def run(processes: int, detector_name: str, count: int) -> dict[str, float]:
    """Return the seconds of a fit and of a score by so many processes."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    ours = [__file__, "--worker", "--detector", detector_name, "--images", str(count)]
    ended = subprocess.run([sys.executable, *torchrun, *ours], stdout=subprocess.PIPE, text=True, check=True)
    seconds: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return seconds


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--detector", default="rose-ekfac")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.detector, args.images)
        return
    taken = [{n: run(n, args.detector, args.images) for n in (1, args.processes)} for _ in range(args.rounds)]
    print(f"{args.detector}, {args.images} images, {date.today()}, torch {torch.__version__}, {args.rounds} rounds")
    for what in ("fit", "score"):
        ratios = [of[1][what] / of[args.processes][what] for of in taken]
        alone = statistics.median(of[1][what] for of in taken)
        print(
            f"{what}: one process {alone:.1f} s; {args.processes} are {statistics.median(ratios):.2f} times as fast "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
