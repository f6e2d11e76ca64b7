"""Choose what `rose-plus` looks at, and by which density, on in-distribution images alone; then look at OOD sets.

    python benchmarks/density_search.py --model cifar10-n32-z200 --id cifar10 --folder runs/search
    python benchmarks/density_search.py --model glow.oodkit --id fashion-mnist --curvature diag --folder runs/search

The choice: held-out training images against the same images changed in fourteen ways (turned, blurred, mixed, …), and
against a class of theirs that the density was fitted without. The configuration with the highest mean AUROC is chosen.
No OOD set is looked at before that; three of them are opened only with --open-sealed, at the very end.

`--without jpeg` asks whether the choice hangs on one of the shifts. Each set's numbers are kept in --folder, so that a
stopped run goes on and the search itself takes seconds (image_numbers.py).
"""

import itertools
from datetime import date
from pathlib import Path

import torch
from image_numbers import DAMPINGS, OOD, SEALED, arguments, collect, matrix
from torch import Tensor

import oodkit
from oodkit.bench.metrics import auroc

KINDS = ("mahalanobis", "tails", "kde", "mixture")
FIRST_SIX = "reconstruction_nll kl entropy residual mean_norm deviation_norm".split()


def configurations(names: list[str]) -> dict[str, list[str]]:
    """Return lists of numbers by a short description."""

    def among(prefix: str) -> list[str]:
        return [name for name in names if name.startswith(prefix)]

    statistics, lengths, norms = among("statistic/"), among("length/"), among("norm/")
    few = [name for name in statistics if name.partition("/")[2] in FIRST_SIX]
    groups = {"statistics": statistics, "lengths": lengths, "norms": norms, "norms + statistics": norms + statistics}
    if few:
        groups["six statistics"] = few
    for damping in DAMPINGS:
        layers = among(f"layer {damping}/")
        groups |= {f"layers {damping}": layers, f"layers {damping} + statistics": layers + statistics}
        if few:
            groups[f"layers {damping} + six statistics"] = layers + few
    return groups | {f"{name} + lengths": chosen + lengths for name, chosen in groups.items() if name != "lengths"}


def judge(sets: dict[str, dict[str, Tensor]], names: list[str], kind: str, **more: int) -> dict[str, float]:
    """Return the AUROC on each shift, and the mean over classes left out of the density; `more` are its options."""
    options = oodkit.DensityOptions(density=kind, **more)
    density, held = matrix(sets["density"], names), matrix(sets["held"], names)
    fitted = oodkit.fit_density(density, options)
    known = fitted.score(held)
    cells = {
        name.partition("/")[2]: auroc(known, fitted.score(matrix(numbers, names)))
        for name, numbers in sets.items()
        if name.startswith("shift/")
    }
    if "label" in sets["density"]:
        of_density, of_held = sets["density"]["label"], sets["held"]["label"]
        left_out = []
        for label in of_density.unique():
            scores = oodkit.fit_density(density[of_density != label], options).score(held)
            left_out.append(auroc(scores[of_held != label], scores[of_held == label]))
        cells["classes left out"] = sum(left_out) / len(left_out)
    return cells


def print_components(sets: dict[str, dict[str, Tensor]], names: list[str]) -> None:
    """Print, for the default list, what the shifts say of the number of Gaussians, of few and of all fitting images."""
    counts, chosen = (1, 2, 4, 8, 16, 32), configurations(names)["statistics + lengths"]
    print(
        f"| mean AUROC over the shifts, Gaussians: | {' | '.join(map(str, counts))} |\n|{' --- |' * (len(counts) + 1)}"
    )
    for images in (300, 1000, len(sets["density"][chosen[0]])):
        few = sets | {"density": {name: values[:images] for name, values in sets["density"].items()}}
        judged = [judge(few, chosen, "mixture", components=count) for count in counts]
        means = [sum(cells.values()) / len(cells) for cells in judged]
        print(f"| {images:,} images | {' | '.join(f'{mean:.4f}' for mean in means)} |")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--components", action="store_true", help="only the number of Gaussians of the default list")
    parser.add_argument("--open-sealed", action="store_true")
    parser.add_argument("--without", nargs="+", default=[], help="shifts that have no say, such as jpeg")
    args = parser.parse_args()
    sets = collect(args)
    names = [name for name in sets["density"] if name != "label"]
    sets = {name: numbers for name, numbers in sets.items() if name.removeprefix("shift/") not in args.without}
    if args.components:
        print_components(sets, names)
        return
    judged = {
        (group, kind): judge(sets, chosen, kind)
        for (group, chosen), kind in itertools.product(configurations(names).items(), KINDS)
    }
    means = {key: sum(cells.values()) / len(cells) for key, cells in judged.items()}
    best = max(means, key=lambda key: means[key])
    name = Path(args.model).stem
    print(f"{name}: seed {args.seed}, images for F, density, shifts: {args.train}, {args.test} a test set, CPU,")
    print(f"{torch.get_num_threads()} threads, {date.today()}. Chosen on shifts: {best[0]}, {best[1]}.\n")
    opened = [f"ood/{n}" for n in OOD if f"ood/{n}" in sets and (args.open_sealed or n not in SEALED)]
    heads = ["shifts: mean", "worst", *(name.partition("/")[2] for name in opened), "mean", "worst"]
    print(f"| AUROC | {' | '.join(heads)} |\n|{' --- |' * (len(heads) + 1)}")
    for group, kind in sorted(means, key=lambda key: -means[key]):
        chosen = configurations(names)[group]
        fitted = oodkit.fit_density(matrix(sets["density"], chosen), oodkit.DensityOptions(density=kind))
        known = fitted.score(matrix(sets["test"], chosen))
        cells = [auroc(known, fitted.score(matrix(sets[name], chosen))) for name in opened]
        row = [means[group, kind], min(judged[group, kind].values()), *cells, sum(cells) / len(cells), min(cells)]
        print(f"| {group}, {kind} | {' | '.join(f'{value:.3f}' for value in row)} |")
    print("\n| AUROC of the chosen | " + " | ".join(judged[best]) + f" |\n|{' --- |' * (len(judged[best]) + 1)}")
    print("| | " + " | ".join(f"{value:.3f}" for value in judged[best].values()) + " |")


if __name__ == "__main__":
    main()
