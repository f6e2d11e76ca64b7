"""A GLOW that trains on two CPU cores, and ROSE on it: one Markdown table, Fashion-MNIST against all others.

    OODKIT_DATA=<folder with the sets> python benchmarks/glow_cpu.py --folder <where the model is kept>

Trains the model `glow` on 12,000 images (a killed run goes on where it stopped), then scores 400 images of each set.
docs/methods/glow.md has what it prints.
"""

import argparse
import datetime
import time
from pathlib import Path
from typing import Any

import torch

import oodkit
from oodkit import ImageSet, create_detector, load_images, load_model, train_model
from oodkit.bench.metrics import auroc
from oodkit.device import device_name

SHAPE = (1, 32, 32)
TRAIN_IMAGES = 12_000
TEST_IMAGES = 400
FITTING_IMAGES = 1_000  # make F; as many others give μ and σ
SETS = ("mnist", "notmnist", "omniglot", "cifar10", "rendered-digits", "tiny-images", "noise", "constant")
ROSE = {"fitting_images": FITTING_IMAGES, "calibration_images": FITTING_IMAGES}
ROWS: tuple[tuple[str, str, bool, dict[str, Any]], ...] = (  # text, detector, all convolutions, options
    ("NLL", "nll", False, {}),
    ("ROSE DIAG, invertible", "rose-diag", False, ROSE),
    ("ROSE DIAG, invertible, log-Mahalanobis", "rose-diag", False, {**ROSE, "aggregation": "mahalanobis"}),
    ("ROSE EKFAC, invertible", "rose-ekfac", False, ROSE),
    ("ROSE FULL, invertible", "rose-full", False, ROSE),
    ("ROSE FULL, invertible, log-Mahalanobis", "rose-full", False, {**ROSE, "aggregation": "mahalanobis"}),
    ("ROSE DIAG, all convolutions", "rose-diag", True, ROSE),
    ("ROSE EKFAC, all convolutions", "rose-ekfac", True, ROSE),
)
PAPER = {  # Choi et al. 2021, tables 2 and 7: 2x16 steps of 200 hidden channels; its SVHN and LSUN are not here
    "paper, ROSE DIAG, invertible": {
        "mnist": 0.562,
        "notmnist": 0.896,
        "omniglot": 1.000,
        "cifar10": 0.976,
        "noise": 1.000,
        "constant": 0.996,
    },
    "paper, ROSE DIAG, all convolutions": {
        "mnist": 0.733,
        "notmnist": 0.829,
        "cifar10": 0.858,
        "noise": 1.000,
        "constant": 0.852,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/glow-cpu"), help="where the model is kept")
    parser.add_argument("--seed", type=int, default=0, help="of the model, its training and the detectors")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)

    known = load_images("fashion-mnist", "train", limit=TRAIN_IMAGES, seed=0, image_shape=SHAPE)
    model = trained(known, arguments.folder, arguments.seed)
    test = load_images("fashion-mnist", "test", limit=TEST_IMAGES, seed=0, image_shape=SHAPE)
    others = [load_images(name, "test", limit=TEST_IMAGES, seed=0, image_shape=SHAPE) for name in SETS]

    print("| AUROC | " + " | ".join(SETS) + " | mean | worst | seconds |\n| --- " + "| --- " * (len(SETS) + 3) + "|")
    for text, name, everything, options in ROWS:
        start = time.perf_counter()
        if name.startswith("rose"):
            options = {**options, "layers": model.convolutions(everything=everything)}
        detector = create_detector(name, model, seed=arguments.seed, **options).fit(known)
        id_scores = detector.score(test)
        cells = [auroc(id_scores, detector.score(images)) for images in others]
        numbers = [f"{cell:.3f}" for cell in (*cells, sum(cells) / len(cells), min(cells))]
        print(f"| {text} | " + " | ".join(numbers) + f" | {time.perf_counter() - start:.0f} |", flush=True)
    for text, figures in PAPER.items():
        print(
            f"| {text} | " + " | ".join(f"{figures[s]:.3f}" if s in figures else "–" for s in SETS) + " | – | – | – |"
        )
    print(f"\n{conditions(model, test, arguments.seed)}")


def trained(images: ImageSet, folder: Path, seed: int) -> Any:  # Any: a Glow, which load_model does not know
    """Return the model of an earlier run, or a new one."""
    path = folder / f"glow-seed{seed}.safetensors"
    if path.exists():
        return load_model(path)
    model = train_model("glow", images, seed=seed, checkpoint=folder / f"glow-seed{seed}.checkpoint")
    model.save(path)
    return model


def conditions(model: Any, test: ImageSet, seed: int) -> str:  # Any: as above
    """Return what the figures depend on, in one sentence or two."""
    record, options = model.training_record, model.options
    bits = record["bits_per_dimension"]
    with torch.no_grad():
        nats = -torch.cat([model.log_prob(batch.to(model.device)) for batch in test.batches(100)]).mean().item()
    return (
        f"glow, {options.blocks}x{options.steps} steps, {options.hidden} hidden channels, seed {seed}, "
        f"{record['count']:,} images of fashion-mnist, {len(bits)} epochs in {record['seconds'] / 60:.0f} minutes on "
        f"{record['device']}: {bits[-1]:.2f} bits/dim, {model.bits_per_dimension(nats):.2f} on test images. "
        f"{TEST_IMAGES} images of each set, F from {FITTING_IMAGES:,}, μ and σ from {FITTING_IMAGES:,} others. "
        f"{device_name(model.device)}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, "
        f"oodkit {oodkit.__version__}, torch {torch.__version__}."
    )


if __name__ == "__main__":
    main()
