"""How fast models train and detectors score on one device, and whether TF32 moves a score: Markdown on stdout.

    python benchmarks/throughput.py [--device cuda] [--images 2000] [--steps 200]

Fashion-MNIST where OODKIT_DATA has it, noise where not: speed does not depend on the pixels, but lengths of compressed
files do. The first batch warms up and is not counted.
"""

import argparse
import time
from datetime import date
from typing import Any

import torch

import oodkit
from oodkit import ImageSet
from oodkit.bench.metrics import auroc
from oodkit.device import device_name, resolve_device

MODELS: dict[str, tuple[str, int]] = {  # what the table calls it -> (model, channels)
    "vae, grey": ("vae", 1),
    "vae, colour": ("vae", 3),
    "glow-fashion-mnist": ("glow-fashion-mnist", 1),
    "glow-cifar10": ("glow-cifar10", 3),
}
DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {  # Any: an option's value
    "vae, grey": ("rose-ekfac rose-diag elbo nll ic-png lr-e lr-z", {}),
    "glow-fashion-mnist": ("rose-diag nll ic-png", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=2000, help="that are scored, and that fit a detector")
    parser.add_argument("--steps", type=int, default=200, help="of training, of 64 images")
    args = parser.parse_args()
    device = resolve_device(args.device)
    if device.type == "cpu":  # a trial
        args.images, args.steps = min(args.images, 8), 1
    print(f"{device_name(device)}, torch {torch.__version__}, oodkit {oodkit.__version__}, {date.today()}.\n")
    print("| model | training steps/s (64 images) |\n| --- | --- |")
    models = {}
    for label, (name, channels) in MODELS.items():
        images = images_of(channels, 64 * args.steps)
        models[label], speed = trained(name, images, device)
        print(f"| {label} | {speed:.1f} |", flush=True)
    print("\n| model | detector | batch | images/s |\n| --- | --- | --- | --- |")
    for label, (names, options) in DETECTORS.items():
        images = images_of(MODELS[label][1], args.images)
        for name in names.split():
            for size in (32, 256) if device.type == "cuda" else (32,):
                detector = oodkit.create_detector(name, models[label], batch_size=size, **options).fit(images)
                speed = scored(detector, images)
                print(f"| {label} | `{name}` | {size} | {speed:.0f} |", flush=True)
    if device.type == "cuda":
        print("\n| ROSE EKFAC | largest relative change of a score | AUROC of noise |\n| --- | --- | --- |")
        compare_precision(models["vae, grey"], images_of(1, args.images))


def images_of(channels: int, count: int) -> ImageSet:
    try:
        return oodkit.load_images("fashion-mnist", "train", limit=count, image_shape=(channels, 32, 32))
    except oodkit.DataNotFoundError:
        return oodkit.load_images("noise", "train", limit=count, image_shape=(channels, 32, 32))


def trained(name: str, images: ImageSet, device: torch.device) -> tuple[oodkit.GenerativeModel, float]:
    """Return a model after two epochs, and the steps per second of the second."""
    first = oodkit.train_model(name, images, device=device, epochs=1)
    before = first.training_record["seconds"]
    start = time.perf_counter()
    second = oodkit.train_model(name, images, device=device, epochs=2)
    seconds = max(time.perf_counter() - start - before, 1e-9)
    return second, -(-len(images) // 64) / seconds


def scored(detector: oodkit.Detector[Any], images: ImageSet) -> float:
    detector.score(images.select(torch.arange(min(len(images), detector.batch_size))))
    start = time.perf_counter()
    detector.score(images)
    return len(images) / (time.perf_counter() - start)


def compare_precision(model: oodkit.GenerativeModel, images: ImageSet) -> None:
    """Print how far TF32, torch's own default for convolutions, moves ROSE from float32."""
    noise = oodkit.load_images("noise", limit=len(images), image_shape=images.image_shape)
    exact = None
    for label, convolutions, products in (
        ("float32", False, False),
        ("TF32 convolutions", True, False),
        ("TF32", True, True),
    ):
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products
        detector = oodkit.create_detector("rose-ekfac", model).fit(images)
        known, other = detector.score(images), detector.score(noise)
        exact = known if exact is None else exact
        moved = ((known - exact).abs() / exact.abs().clamp_min(1e-6)).max().item()
        print(f"| {label} | {moved:.1e} | {auroc(known, other):.4f} |")


if __name__ == "__main__":
    main()
