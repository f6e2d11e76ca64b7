"""What the detectors of one grid gain by sharing likelihoods and gradients, against each for itself, in one run.

    python benchmarks/grid_speed.py [--rounds 3] [--images 128] [--fitting 512] [--device cpu]

Two grids on a VAE of the paper's size without training (time does not depend on the weights), each with and without the
memory that they share; the four take turns, each in an empty run folder. What counts is the ratio of the rounds' times.
"""

import argparse
import statistics
import tempfile
import time
from datetime import date
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

import oodkit
from oodkit.bench import work
from oodkit.bench.memory import Memory
from oodkit.bench.runner import run_bench
from oodkit.bench.spec import read_spec
from oodkit.device import device_name, resolve_device

GRIDS = {
    "gradients": ["rose-ekfac", "rose-diag", "rose-identity", "rose-plus", "score-test"],
    "likelihoods": ["nll", "ic-png", "ic-jp2", "typicality"],
}


def seconds(detectors: list[str], folder: Path, args: argparse.Namespace) -> float:
    """Return how long a grid of three OOD sets takes, in an empty run folder."""
    with tempfile.TemporaryDirectory() as run_folder:
        of_rose = {"fitting_images": args.fitting, "calibration_images": args.fitting // 4}
        spec = read_spec(
            detectors=detectors,
            baseline=False,
            model=str(folder / "vae.oodkit"),
            id=str(folder / "train.npz"),
            ood=[str(folder / f"{i}.npz") for i in range(3)],
            device=args.device,
            limit=args.images,
            run_folder=run_folder,
            options={name: of_rose for name in detectors if name.startswith(("rose", "score-test"))},
        )
        start = time.perf_counter()
        result = run_bench(spec)
        taken = time.perf_counter() - start
    assert not result.failures, result.failures
    return taken


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=128, help="of each set")
    parser.add_argument("--fitting", type=int, default=512, help="training images that make F")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    alone = partial(Memory, limit=0)
    ratios: dict[str, list[float]] = {name: [] for name in GRIDS}
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(0)
        for stem, count in (("train", 2 * args.fitting + args.images), *((str(i), args.images) for i in range(3))):
            np.savez(folder / f"{stem}.npz", images=rng.integers(256, size=(count, 32, 32), dtype=np.uint8))
        oodkit.create_model("vae", (1, 32, 32), device="cpu").save(folder / "vae.oodkit")
        for number in range(args.rounds + 1):
            for grid, detectors in GRIDS.items():
                shared = seconds(detectors, folder, args)
                with patch.object(work, "Memory", alone):
                    apart = seconds(detectors, folder, args)
                if number:  # the first round warms up
                    ratios[grid].append(apart / shared)
                    print(f"{grid}: {shared:.1f} s with the memory, {apart:.1f} s without", flush=True)
    print(f"\n{date.today()}, {device_name(resolve_device(args.device))}, torch {torch.__version__}, {args}")
    for grid, values in ratios.items():
        print(
            f"{grid} ({', '.join(GRIDS[grid])}): {statistics.median(values):.2f} times as fast with the memory, rounds",
            end=" ",
        )
        print(f"{min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main()
