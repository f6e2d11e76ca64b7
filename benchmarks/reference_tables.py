"""Print the AUROC of our detectors on the paper's own VAEs beside the paper's figures, as Markdown.

    python benchmarks/reference_tables.py [--model fashion-mnist|cifar10] [--fit 5000] [--test 1000]

It needs the authors' weights (OODKIT_REFERENCE) and the real sets (OODKIT_DATA). Half an hour for
each model on one core: most of it is `nll`, with its 20 passes of the decoder.
"""

import argparse
import time
from datetime import date
from importlib.metadata import version
from typing import Any

import torch
from reference import reference_vae

import oodkit
from oodkit.bench.metrics import auroc
from oodkit.device import device_name

WEIGHTS = {"fashion-mnist": "fashion-mnist-n32-z100-seed1", "cifar10": "cifar10-n32-z200"}

SETS = {
    "fashion-mnist": "mnist notmnist omniglot cifar10 rendered-digits tiny-images noise constant".split(),
    "cifar10": "mnist fashion-mnist notmnist omniglot rendered-digits tiny-images noise constant".split(),
}

# Choi et al. 2021: Tables 2 and 6 for Fashion-MNIST; Table 3, width x0.5, for CIFAR-10.
PAPER = {
    "fashion-mnist": {
        "ROSE EKFAC": dict(mnist=0.995, notmnist=1.0, omniglot=1.0, cifar10=0.999, noise=0.996, constant=1.0),
        "ROSE DIAG": dict(mnist=0.971, notmnist=0.997, cifar10=0.992, noise=0.885, constant=0.997),
        "NLL": dict(mnist=0.161, notmnist=0.98, omniglot=1.0, cifar10=1.0, noise=1.0, constant=0.953),
    },
    "cifar10": {"ROSE EKFAC": dict(mnist=1.0, notmnist=0.998, noise=1.0, constant=0.99)},
}

# what the table calls it -> (detector, options)
DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {  # Any: an option's value
    "`elbo`": ("elbo", {}),
    "`rose-ekfac`, same, 1e-8 (the paper)": ("rose-ekfac", {"calibration": "same", "relative_damping": 0}),
    "`rose-ekfac`, apart, 1e-8": ("rose-ekfac", {"relative_damping": 0}),
    "`rose-ekfac`, same, r = 0.1": ("rose-ekfac", {"calibration": "same", "relative_damping": 0.1}),
    "`rose-ekfac`, apart, r = 0.1": ("rose-ekfac", {"relative_damping": 0.1}),
    "`rose-ekfac`, apart, r = 1, mahalanobis": (
        "rose-ekfac",
        {"relative_damping": 1, "aggregation": "mahalanobis"},
    ),
    "`rose-diag`, same, 1e-8 (the paper)": ("rose-diag", {"calibration": "same", "relative_damping": 0}),
    "`rose-diag`, apart, 1e-8, mahalanobis": ("rose-diag", {"relative_damping": 0, "aggregation": "mahalanobis"}),
    "`rose-identity`, apart": ("rose-identity", {}),
    "`nll` (20 samples)": ("nll", {}),
}


def main() -> None:
    """Print one table for each model, row by row as they are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(WEIGHTS), action="append", help="by default both")
    parser.add_argument("--fit", type=int, default=5000, metavar="N", help="images that make F")
    parser.add_argument("--test", type=int, default=1000, metavar="N", help="images of each set that are scored")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of images and of all detectors")
    args = parser.parse_args()
    for name in args.model or list(WEIGHTS):
        print_table(name, args.fit, args.test, args.seed)


def print_table(name: str, fit: int, test: int, seed: int) -> None:
    """Print AUROC, mean and worst over the sets, and images scored per second, of every detector."""
    model = reference_vae(WEIGHTS[name])

    def load(source: str, split: str, limit: int) -> oodkit.ImageSet:
        return oodkit.load_images(source, split, limit=limit, seed=seed, image_shape=model.image_shape)

    train = {"same": load(name, "train", fit), "apart": load(name, "train", fit + 1000)}  # 1000: calibration_images
    known, sets = load(name, "test", test), {ood: load(ood, "test", test) for ood in SETS[name]}
    same, apart = len(train["same"]), len(train["apart"]) - 1000
    print(f"\nThe authors' VAE {WEIGHTS[name]}, {test} test images of each set. Same: F, μ and σ from {same} training")
    print(f"images. Apart: μ and σ from 1000 training images, F from {apart} others. Seed {seed}, {date.today()},")
    print(f"oodkit {version('oodkit')}, torch {torch.__version__}, {device_name(model.device)}.\n")
    print(f"| AUROC | {' | '.join(sets)} | mean | worst | images/s |\n|{' --- |' * (len(sets) + 4)}")
    for row, cells in PAPER[name].items():
        print(f"| *paper: {row}* | {' | '.join(f'*{cells[s]:.3f}*' if s in cells else '' for s in sets)} | | | |")
    for row, (detector, options) in DETECTORS.items():
        fitted = oodkit.create_detector(detector, model, seed=seed, **options)
        fitted.fit(train[options.get("calibration", "apart")])
        start = time.perf_counter()
        at_home = fitted.score(known)
        cells = {ood: auroc(at_home, fitted.score(images)) for ood, images in sets.items()}
        speed = (len(known) + sum(map(len, sets.values()))) / (time.perf_counter() - start)
        summary = [sum(cells.values()) / len(cells), min(cells.values())]
        print(f"| {row} | {' | '.join(f'{v:.3f}' for v in [*cells.values(), *summary])} | {speed:.0f} |", flush=True)


if __name__ == "__main__":
    main()
