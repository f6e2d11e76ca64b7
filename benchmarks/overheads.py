"""What surrounds scoring: starting, loading a fitted detector, decoding pictures, fitting. A table on stdout.

    python benchmarks/overheads.py [--rounds 5] [--pictures 500] [--fitting 5000]

Each start is a process of its own. `first score` is what a program waits for after torch is there: oodkit's own
import, a fitted ROSE with the paper's Fashion-MNIST VAE read from its file, and one image scored. Pictures are PNG and
JPEG of 64x64 in a folder, decoded, made grey and resized; beside them stands what the same ROSE scores in the same run.
`fit` is done once: F from so many images, μ and σ from 1,000 others; then the two largest eigendecompositions in it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import oodkit
from oodkit.device import device_name

FIRST_SCORE = """
import sys, time
import torch
start = time.perf_counter()
import oodkit
detector = oodkit.load_detector(sys.argv[1], device="cpu")
detector.score(torch.zeros(1, 1, 32, 32, dtype=torch.uint8))
print(time.perf_counter() - start)
"""


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def process(*arguments: str) -> float:
    """Return how long a Python process takes, or what it prints."""
    start = time.perf_counter()
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    taken = time.perf_counter() - start
    return float(run.stdout) if FIRST_SCORE in arguments else taken


def write_pictures(folder: Path, count: int) -> None:
    """Write colour pictures of 64x64, every other one a JPEG."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
        picture.save(folder / f"{i:06d}.{'jpg' if i % 2 else 'png'}")


def fitting(model: oodkit.GenerativeModel, count: int) -> dict[str, list[float]]:
    """Return how long a fit takes, the scoring of as many images, and the largest eigendecompositions of the fit."""
    images = torch.randint(256, (count + 1000, 1, 32, 32), dtype=torch.uint8)
    detector = oodkit.create_detector("rose-ekfac", model, fitting_images=count, calibration_images=1000)
    fit = seconds(lambda: detector.fit(images))
    score = seconds(lambda: detector.score(images[:count]))
    matrices = torch.rand(2, 2049, 2049, dtype=torch.float64)
    matrices = matrices @ matrices.mT
    eigh = seconds(lambda: [torch.linalg.eigh(matrix) for matrix in matrices])
    return {
        f"`rose-ekfac`, fit on {count:,} images": [fit],
        f"`rose-ekfac`, score of {count:,} images": [score],
        "two eigendecompositions of 2,049x2,049": [eigh],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--fitting", type=int, default=5000, help="training images that make F")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        artifact, pictures = Path(name) / "rose.oodkit", Path(name) / "pictures"
        pictures.mkdir()
        write_pictures(pictures, args.pictures)
        model = oodkit.create_model("vae", (1, 32, 32), device="cpu")
        detector = oodkit.create_detector("rose-ekfac", model).fit(oodkit.load_images("noise", limit=200))
        detector.save(artifact)
        images = torch.randint(256, (args.pictures, 1, 32, 32), dtype=torch.uint8)
        work: dict[str, Callable[[], float]] = {
            "python -c pass": lambda: process("-c", "pass"),
            "import torch": lambda: process("-c", "import torch"),
            "import oodkit": lambda: process("-c", "import oodkit"),
            "oodkit --help": lambda: process("-m", "oodkit", "--help"),
            "first score, after torch's import": lambda: process("-c", FIRST_SCORE, str(artifact)),
            f"{args.pictures} pictures: decoding": lambda: seconds(
                lambda: oodkit.load_images(pictures, image_shape=(1, 32, 32), resize=True)
            ),
            f"{args.pictures} images: `rose-ekfac`": lambda: seconds(lambda: detector.score(images)),
        }
        taken: dict[str, list[float]] = {text: [] for text in work}
        for number in range(args.rounds + 1):
            for text, measure in work.items():
                if number:  # the first round warms up
                    taken[text].append(measure())
                else:
                    measure()
        taken |= fitting(model, args.fitting)
    print(f"{date.today()}, {device_name(torch.device('cpu'))}, torch {torch.__version__}, {args.rounds} rounds\n")
    print("| | seconds | least to most |\n| --- | --- | --- |")
    for text, values in taken.items():
        print(f"| {text} | {statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f} |")


if __name__ == "__main__":
    main()
