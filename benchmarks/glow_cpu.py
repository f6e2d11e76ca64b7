"""A GLOW that trains on two CPU cores, and the detectors that look through it: a Markdown table for each seed.

    OODKIT_DATA=<folder with the sets> python benchmarks/glow_cpu.py --seeds 0,1
    OODKIT_DATA=<folder with the sets> python benchmarks/glow_cpu.py --id <folder>/mnist-test.npz

The second is the reversed pair: trained on digits, tested with clothes. All is kept in a run folder: a killed run
goes on where it stopped, and a second one only prints. docs/methods/glow.md has what it prints.
"""

import argparse
import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import oodkit
from oodkit.bench.runner import BenchResult, run_bench
from oodkit.bench.spec import BenchSpec, read_spec

SETS = (
    "fashion-mnist",
    "mnist",
    "notmnist",
    "omniglot",
    "cifar10",
    "rendered-digits",
    "tiny-images",
    "noise",
    "constant",
)
ROSE: dict[str, Any] = {"fitting_images": 1_000, "calibration_images": 1_000}  # Any: an option's value
BACKGROUND = {"epochs": 3}  # for two cores: a fifth of the model's


@dataclass(frozen=True)
class Row:
    """One row of the table: a detector with options."""

    text: str
    detector: str
    options: dict[str, Any] = field(default_factory=dict)
    everything: bool = False  # all convolutions, not the invertible ones


ROWS = (
    Row("`nll`", "nll"),
    Row("`ic-png`", "ic-png"),
    Row("`ic-jp2`", "ic-jp2"),
    Row("`typicality`", "typicality"),
    Row("`statistics-density`", "statistics-density"),
    Row("`rose-diag`, invertible", "rose-diag", ROSE),
    Row("`rose-ekfac`, invertible", "rose-ekfac", ROSE),
    Row("`rose-full`, invertible", "rose-full", ROSE),
    Row("`rose-identity`, invertible", "rose-identity", ROSE),
    Row("`rose-diag`, all convolutions", "rose-diag", ROSE, everything=True),
    Row("`rose-ekfac`, all convolutions", "rose-ekfac", ROSE, everything=True),
    Row("`rose-diag`, invertible, log-Mahalanobis", "rose-diag", {**ROSE, "aggregation": "mahalanobis"}),
    Row("`lratio-random`", "lratio-random", BACKGROUND),
    Row("`lratio-svd`", "lratio-svd", BACKGROUND),
    Row("`lratio-dct`", "lratio-dct", BACKGROUND),
    Row("`lratio-gaussian-blur`", "lratio-gaussian-blur", BACKGROUND),
)
# Choi et al. 2021, tables 2 and 7, Fashion-MNIST: 2x16 steps of 200 hidden channels. Its KMNIST and SVHN are not here.
PAPER = {
    "*paper: ROSE DIAG, invertible*": (0.562, 0.896, 1.000, 0.976, None, None, 1.000, 0.996),
    "*paper: ROSE DIAG, all convolutions*": (0.733, 0.829, None, 0.858, None, None, 1.000, 0.852),
    "*paper: LRatio, random*": (0.850, 0.500, 0.869, 0.974, None, None, 1.000, 0.005),
    "*paper: IC (PNG)*": (0.922, 0.542, 1.000, 0.772, None, None, 1.000, 1.000),
    "*paper: IC (JPEG 2000)*": (0.616, 0.521, 1.000, 0.998, None, None, 1.000, 1.000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--id", default="fashion-mnist", help="what GLOW is trained on: a name or a path")
    parser.add_argument("--folder", type=Path, default=Path("runs/glow-cpu"), help="the run folder")
    parser.add_argument("--seeds", default="0", help="of models, draws and detectors, with commas")
    parser.add_argument("--epochs", type=int, help="of GLOW; by default the model's own, 15")
    parser.add_argument("--train-limit", type=int, default=12_000, help="training images")
    parser.add_argument("--limit", type=int, default=400, help="test images of each set")
    parser.add_argument("--rows", help="detectors, with commas: only their rows")
    arguments = parser.parse_args()
    for seed in arguments.seeds.split(","):
        table(arguments, int(seed))


def table(arguments: argparse.Namespace, seed: int) -> None:
    """Print one seed's table, row by row as they come."""
    sets = [name for name in SETS if not Path(arguments.id).stem.startswith(name)]
    wanted = arguments.rows.split(",") if arguments.rows else [row.detector for row in ROWS]
    columns = [f"AUROC, seed {seed}", *sets, "mean", "worst"]
    print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|")
    for row in (row for row in ROWS if row.detector in wanted):
        result = run_bench(spec(arguments, seed, sets, row))
        for failure in result.failures:
            raise SystemExit(f"{row.text}: {failure.reason}\n{failure.trace}")
        cells = [result.auroc(row.detector, name) for name in sets]
        numbers = [f"{cell:.3f}" for cell in (*cells, sum(cells) / len(cells), min(cells))]
        print(f"| {row.text} | " + " | ".join(numbers) + " |", flush=True)
    if arguments.id == "fashion-mnist":
        for text, figures in PAPER.items():
            print(f"| {text} | " + " | ".join("–" if f is None else f"*{f:.3f}*" for f in figures) + " | | |")
    print(f"\n{conditions(result)}\n", flush=True)


def spec(arguments: argparse.Namespace, seed: int, sets: list[str], row: Row) -> BenchSpec:
    """Return the run of one row: its model is trained by the first, and found by the others."""
    options = dict(row.options)
    if row.everything:
        options["layers"] = ["*"]
    return read_spec(
        detectors=[row.detector],
        baseline=False,
        model="glow",
        id=arguments.id,
        ood=sets,
        seeds=[seed],
        epochs=arguments.epochs,
        limit=arguments.limit,
        train_limit=arguments.train_limit,
        resize=True,
        run_folder=arguments.folder,
        options={row.detector: options},
    )


def conditions(result: BenchResult) -> str:
    """Return what the figures depend on."""
    cell, plan = result.cells[0], result.plan
    file = plan.run_folder / "models" / f"{cell.hashes['model']}.safetensors"
    record = oodkit.load_model(file, "cpu").training_record
    bits = record["bits_per_dimension"]
    return (
        f"glow trained on {record['count']:,} images of {record['images']}, {len(bits)} epochs in "
        f"{record['seconds'] / 60:.0f} minutes: {bits[-1]:.2f} bits/dim. {cell.sets['id']['count']} test images of "
        f"each set. {cell.device}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, oodkit {oodkit.__version__}, "
        f"torch {cell.versions['torch']}."
    )


if __name__ == "__main__":
    main()
