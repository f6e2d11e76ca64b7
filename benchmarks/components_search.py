"""Choose how many Gaussians a mixture has, on in-distribution images alone: no OOD set is opened, and none is printed.

    python benchmarks/components_search.py --model cifar10-n32-z200=cifar10 fashion-mnist-n32-z100-seed1=fashion-mnist
                                           glow.oodkit=fashion-mnist --seeds 10 11 12

The density is that of `statistics-density`: all statistics and three lengths. A rule is two numbers: the most
Gaussians, and the images that each has for each number at least. It is judged as in density_search.py, by the mean
AUROC over the shifts and over classes left out, and the mean over models, seeds and numbers of fitting images decides.
"""

import argparse
from collections import defaultdict
from datetime import date
from pathlib import Path
from statistics import mean

import torch
from density_search import judge
from image_numbers import image_sets, model_of
from torch import Tensor

import oodkit
from oodkit import density

MOST = (1, 2, 4, 8, 16, 32)
PER_NUMBER = (2, 4, 8, 16, 32)
LENGTHS = ("png", "jp2", "jpeg")


def numbers_of(model: oodkit.GenerativeModel, images: Tensor) -> dict[str, Tensor]:
    """Return what `statistics-density` looks at, float64 (N,) by name."""
    with torch.no_grad():
        parts = [model.statistics(part) for part in images.split(64)]
    lengths = oodkit.compressed_lengths(images, LENGTHS)
    found = {name: torch.cat([part[name] for part in parts]).double() for name in parts[0]}
    return found | dict(zip(LENGTHS, lengths.T, strict=True))


def judged(args: argparse.Namespace) -> dict[tuple[int, int], list[float]]:
    """Return, for each rule, the mean AUROC of few, of some and of all fitting images."""
    model = model_of(args).eval()
    _, fitting, held, wanted = image_sets(args, model.image_shape)
    wanted = {name: images for name, images in wanted.items() if name in ("density", "held") or name[:6] == "shift/"}
    sets = {name: numbers_of(model, images()) for name, images in wanted.items()}
    names = list(sets["held"])
    if fitting.labels is not None and held.labels is not None:
        sets["density"]["label"], sets["held"]["label"] = fitting.labels, held.labels
    result = defaultdict(list)
    for count in (300, 1000, len(fitting)):
        few = sets | {"density": {name: values[:count] for name, values in sets["density"].items()}}
        known: dict[int, float] = {}
        for most in MOST:
            for per_number in PER_NUMBER:
                components = max(1, min(most, count // (per_number * len(names))))
                if components not in known:
                    known[components] = mean(judge(few, names, "mixture", components=components).values())
                result[most, per_number].append(known[components])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", required=True, help="MODEL=SET, as density_search.py takes them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12])
    parser.add_argument("--train", type=int, nargs=3, default=(1, 3500, 300), help="for F, the density, the shifts")
    parser.add_argument("--test", type=int, default=1)
    args = parser.parse_args()
    density.PER_NUMBER = 1  # the rules below take its place
    by_model = {}
    for pair in args.model:
        args.model, args.id = pair.rsplit("=", 1)
        of_seeds = []
        for seed in args.seeds:
            args.seed = seed
            of_seeds.append(judged(args))
        by_model[Path(args.model).stem] = {rule: mean(v for s in of_seeds for v in s[rule]) for rule in of_seeds[0]}
    print(f"seeds {args.seeds}, {args.train[1]} fitting images at most, {args.train[2]} held back, {date.today()}\n")
    print(f"| Gaussians at most, images a number at least | {' | '.join(by_model)} | mean |")
    print("| --- " * (len(by_model) + 2) + "|")
    means = {rule: mean(of[rule] for of in by_model.values()) for rule in next(iter(by_model.values()))}
    for most, per_number in sorted(means, key=lambda rule: -means[rule]):
        cells = [of[most, per_number] for of in by_model.values()] + [means[most, per_number]]
        print(f"| {most}, {per_number} | {' | '.join(f'{cell:.4f}' for cell in cells)} |")


if __name__ == "__main__":
    main()
