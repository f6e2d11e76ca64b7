"""What TF32 and bfloat16 change against float32, in scores, AUROC, speed and training: Markdown on stdout.

    python benchmarks/precision.py [--device cuda] [--images 1000] [--epochs 3] [--train 20000] [--detector …]

Fashion-MNIST and MNIST where OODKIT_DATA has them, digits where not. A VAE is trained in each precision with one seed.
The detectors are fitted in float32 to the one that was trained so, and score in each precision; "change" is that of a
score, divided by the deviation of the in-distribution scores. TF32 is what
`torch.set_float32_matmul_precision("high")` allows, and bfloat16 that of `torch.autocast`; on a CPU TF32 does nothing.
"""

import argparse
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import date
from typing import Any

import torch
from torch import Tensor

import oodkit
from oodkit import ImageSet
from oodkit.bench.metrics import auroc
from oodkit.device import device_name, resolve_device

PRECISIONS = ("float32", "TF32", "bfloat16")
DETECTORS = "elbo,nll,rose-ekfac,rose-diag,statistics-density,rose-plus"


@contextmanager
def precision(name: str, device: torch.device) -> Generator[None]:
    """Compute in this precision until the end."""
    torch.set_float32_matmul_precision("high" if name == "TF32" else "highest")
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16"):
            yield
    finally:
        torch.set_float32_matmul_precision("highest")


def images_of(split: str, limit: int) -> tuple[ImageSet, dict[str, ImageSet]]:
    """Return in-distribution images, and OOD images by name."""
    try:
        known, name = oodkit.load_images("fashion-mnist", split, limit=limit), "mnist"
        other = oodkit.load_images("mnist", "test", limit=limit)
    except oodkit.DataNotFoundError:
        known, name = oodkit.load_images("digits", split, limit=limit), "flipped"
        other = oodkit.load_images("flipped", reference=known)
    return known, {name: other, "noise": oodkit.load_images("noise", "test", limit=len(known))}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:  # Any: what `work` returns
    """Return what `work` returns, on the CPU or after the GPU has finished, and its seconds."""
    start = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=1000, help="of each set that are scored")
    parser.add_argument("--train", type=int, default=20000, help="training images")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--detector", default=DETECTORS)
    args = parser.parse_args()
    device = resolve_device(args.device)
    train, _ = images_of("train", args.train)
    known, others = images_of("test", args.images)
    print(
        f"{device_name(device)}, torch {torch.__version__}, oodkit {oodkit.__version__}, {date.today()}; VAE on "
        f"{train.name}, seed 0, {len(train)} training images, {args.epochs} epochs; {len(known)} test images a set.\n"
    )
    models = compare_training(train, known, others, args.epochs, device)
    print(f"\n| detector | scored in | images/s | median change | largest change | {' | '.join(others)} |")
    print(f"| --- | --- | --- | --- | --- |{' --- |' * len(others)}")
    for name in args.detector.split(","):
        detector = oodkit.create_detector(name, models["float32"]).fit(train)
        compare_scoring(detector, known, others, device)


def compare_training(
    train: ImageSet, known: ImageSet, others: dict[str, ImageSet], epochs: int, device: torch.device
) -> dict[str, oodkit.GenerativeModel]:
    """Print what becomes of one training in each precision; return the models."""
    print(f"| trained in | seconds | bits/dim | {' | '.join(f'elbo, {name}' for name in others)} |")
    print(f"| --- | --- | --- |{' --- |' * len(others)}")
    models = {}
    for name in PRECISIONS:
        with precision(name, device):
            model, seconds = timed(lambda: oodkit.train_model("vae", train, epochs=epochs, device=device))
        detector = oodkit.create_detector("elbo", model).fit(train.sample(8, 0))  # float32 again
        scores = detector.score(known)
        cells = [auroc(scores, detector.score(other)) for other in others.values()]
        bits = model.training_record["bits_per_dimension"]
        columns = [name, f"{seconds:.1f}", f"{bits[-1]:.4f}" if bits else "", *(f"{cell:.4f}" for cell in cells)]
        print(f"| {' | '.join(columns)} |", flush=True)
        models[name] = model
    return models


def compare_scoring(
    detector: oodkit.Detector[Any],  # Any: options of any detector
    known: ImageSet,
    others: dict[str, ImageSet],
    device: torch.device,
) -> None:
    """Print how far the scores of a detector that was fitted in float32 move in each precision."""
    detector.score(known)  # warms up
    exact = None
    for name in PRECISIONS:
        try:
            with precision(name, device):
                scores, seconds = timed(lambda: detector.score(known))
                cells = [auroc(scores, detector.score(other)) for other in others.values()]
        except RuntimeError as error:  # an operation that bfloat16 does not have
            print(f"| `{detector.name}` | {name} | impossible: {str(error).partition(chr(10))[0]} |", flush=True)
            continue
        exact = scores if exact is None else exact
        change: Tensor = (scores - exact).abs() / exact.std()
        figures = [f"{len(known) / seconds:.0f}", f"{change.median():.1e}", f"{change.max():.1e}"]
        columns = [f"`{detector.name}`", name, *figures, *(f"{cell:.4f}" for cell in cells)]
        print(f"| {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
