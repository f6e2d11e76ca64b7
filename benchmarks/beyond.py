"""Every detector that looks at a model's numbers, on every set, with its cost: a table, and worst cell against cost.

    python benchmarks/beyond.py --model cifar10-n32-z200 --id cifar10 --folder runs/search --out benchmarks/results

It reads the numbers that image_numbers.py keeps in --folder (and collects them where they are missing), and joins them
as the detectors do. Cost is measured with the detectors themselves: the CPU time of scoring, on one thread, in units of
`elbo`, which is one forward pass; the detectors take turns, five rounds, and the median of the ratios is printed. It
draws with matplotlib: pip install --editable '.[plots]'.
"""

import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from image_numbers import OOD, SEALED, arguments, collect, matrix, model_of
from matplotlib import pyplot as plt
from torch import Tensor

import oodkit
from oodkit.bench.metrics import auroc

mpl.use("Agg")

Numbers = dict[str, Tensor]
Score = Callable[[Numbers], Tensor]


def among(numbers: Numbers, prefix: str) -> list[str]:
    return [name for name in numbers if name.startswith(prefix)]


def log_prob(numbers: Numbers) -> Tensor:
    if "statistic/log_prob" in numbers:
        return numbers["statistic/log_prob"]
    return -numbers["statistic/reconstruction_nll"] - numbers["statistic/kl"]


def density_of(names: list[str], fitting: Numbers, **options: Any) -> Score:  # Any: an option's value
    density = oodkit.fit_density(matrix(fitting, names), oodkit.DensityOptions(**options))
    return lambda numbers: density.score(matrix(numbers, names))


def rose(fitting: Numbers, damping: str) -> Score:
    names = among(fitting, f"layer {damping}/")
    known = matrix(fitting, names)
    mean, deviation = known.mean(0), known.std(0).clamp_min(1e-12)
    return lambda numbers: ((matrix(numbers, names) - mean) / deviation).amax(1)


def typicality(fitting: Numbers) -> Score:
    entropy = -log_prob(fitting).mean()
    return lambda numbers: (-log_prob(numbers) - entropy).abs()


def score_test(fitting: Numbers) -> Score:
    names = among(fitting, "layer 1e-8/")

    def values(numbers: Numbers) -> Tensor:
        return torch.stack([log_prob(numbers), matrix(numbers, names).sum(1)], 1)

    tests = oodkit.fit_density(values(fitting), oodkit.DensityOptions(density="tails"))
    return lambda numbers: tests.score(values(numbers))


def detectors(
    fitting: Numbers, curvature: str
) -> dict[str, tuple[Score, str, dict[str, Any]]]:  # Any: an option's value
    """Return, by the row's name, the score of numbers, and the detector and options whose score it is."""
    statistics_, lengths = among(fitting, "statistic/"), among(fitting, "length/")
    layers = among(fitting, "layer 1e-8/")
    rows: dict[str, tuple[Score, str, dict[str, Any]]] = {  # Any: as above
        "complexity": (density_of(lengths, fitting), "complexity", {}),
        "elbo": (lambda numbers: -log_prob(numbers), "elbo", {}),
        "typicality, one sample": (typicality(fitting), "typicality", {"samples": 1}),
        "dose": (density_of(statistics_, fitting, density="kde"), "dose", {}),
        "gradient-norm-density": (
            density_of(among(fitting, "norm/"), fitting, shrinkage=1.0),
            "gradient-norm-density",
            {},
        ),
        f"score-test-{curvature}": (score_test(fitting), f"score-test-{curvature}", {}),
        f"rose-{curvature}": (rose(fitting, "1e-8"), f"rose-{curvature}", {}),
        f"rose-{curvature}, r = 0.1": (rose(fitting, "0.1"), f"rose-{curvature}", {"relative_damping": 0.1}),
        f"rose-{curvature}, mahalanobis": (
            density_of(layers, fitting),
            f"rose-{curvature}",
            {"aggregation": "mahalanobis"},
        ),
        "statistics-density": (density_of(statistics_ + lengths, fitting, density="mixture"), "statistics-density", {}),
        "statistics-density, no lengths": (
            density_of(statistics_, fitting, density="mixture"),
            "statistics-density",
            {"lengths": []},
        ),
        "rose-plus": (
            density_of(layers + statistics_ + lengths, fitting, density="mixture"),
            f"rose-plus-{curvature}",
            {},
        ),
        "rose-plus, no lengths": (
            density_of(layers + statistics_, fitting, density="mixture"),
            f"rose-plus-{curvature}",
            {"lengths": []},
        ),
        "rose-plus, mahalanobis": (
            density_of(layers + statistics_ + lengths, fitting),
            f"rose-plus-{curvature}",
            {"density": "mahalanobis"},
        ),
    }
    path = [f"statistic/{name}" for name in ("residual", "mean_norm", "deviation_norm")]
    if set(path) <= set(statistics_):
        rows["lpath"] = (density_of(path, fitting, density="tails"), "lpath", {})
    return rows


def costs(
    model: oodkit.GenerativeModel, wanted: dict[str, tuple[str, dict[str, Any]]], images: Tensor
) -> dict[str, float]:
    """Return the CPU time that each detector takes to score `images`, in units of `elbo`.

    Dampings and densities cost the same; what differs by its name, its lengths or its samples is measured.
    """
    settings = {
        row: (name, {key: value for key, value in options.items() if key in ("lengths", "samples")})
        for row, (name, options) in wanted.items()
    }
    kinds = {row: f"{name} {options}" for row, (name, options) in settings.items()}
    fitted: dict[str, oodkit.Detector[Any]] = {}  # Any: options of any detector
    for row, (name, options) in settings.items():
        if kinds[row] not in fitted:
            fitted[kinds[row]] = oodkit.create_detector(name, model, batch_size=32, **options).fit(images)
    rounds: dict[str, list[float]] = {kind: [] for kind in fitted}
    for _ in range(5):
        taken = {}
        for kind, detector in fitted.items():
            start = time.process_time()
            detector.score(images)
            taken[kind] = time.process_time() - start
        for kind, seconds in taken.items():
            rounds[kind].append(seconds / taken["elbo {}"])
    return {row: statistics.median(rounds[kind]) for row, kind in kinds.items()}


def draw(rows: dict[str, tuple[float, float]], title: str, file: Path) -> None:
    """Draw the worst cell against the cost; rows hold cost and worst cell."""
    figure, axes = plt.subplots(figsize=(9, 5.5))
    for row, (cost, worst) in rows.items():
        axes.plot(cost, worst, "o", color="tab:red" if row.startswith("rose-plus") else "tab:blue")
    span = max(cost for cost, _ in rows.values()) + 1
    taken = [(cost - 0.01 * span, cost + 0.01 * span, worst) for cost, worst in rows.values()]  # left, right, height
    for row, (cost, worst) in sorted(rows.items(), key=lambda item: -item[1][1]):
        left, right = cost + 0.015 * span, cost + (0.015 + 0.0082 * len(row)) * span
        beside = [at for start, end, at in taken if start < right and end > left]
        heights = sorted((worst + 0.01 * step for step in range(-60, 60)), key=lambda height: abs(height - worst))
        height = next(h for h in heights if h < 1.04 and all(abs(h - at) >= 0.029 for at in beside))
        taken.append((left, right, height))
        line = {"arrowstyle": "-", "color": "grey", "linewidth": 0.4, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(row, (cost, worst), (left, height), fontsize=8, va="center", arrowprops=line)
    axes.set_xlabel("cost of scoring, forward passes (elbo = 1)")
    axes.set_ylabel("worst AUROC")
    axes.set(xlim=(0, span), ylim=(-0.05, 1.07))
    axes.axhline(0.5, color="grey", linewidth=0.5)
    axes.set_title(title)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sets = collect(args)
    wanted = detectors(sets["density"], args.curvature)
    names = [name for name in OOD if f"ood/{name}" in sets]
    rows = {row: figures(score, sets, names) for row, (score, _, _) in wanted.items()}
    model = model_of(args)
    images = oodkit.load_images(args.id, "test", limit=32, seed=args.seed, image_shape=model.image_shape).images
    cost = costs(model, {row: (name, options) for row, (_, name, options) in wanted.items()}, images)
    name, (fisher, density, _) = Path(args.model).stem, args.train
    lines = [
        f"{name}: seed {args.seed}; {fisher} training images make F, {density} others the densities; {args.test} test "
        f"images a set; CPU, {torch.get_num_threads()} threads, torch {torch.__version__}, {date.today()}.",
        f"Not looked at before the choice: {', '.join(SEALED)}.",
        "",
        f"| AUROC | {' | '.join(names)} | mean | worst | ID as JPEG | JPEG ID against tiny-images | cost |",
        "|" + " --- |" * (len(names) + 6),
    ]
    for row, values in rows.items():
        lines.append(f"| {row} | {' | '.join(f'{value:.3f}' for value in values)} | {cost[row]:.1f} |")
    args.out.mkdir(parents=True, exist_ok=True)
    stem = f"beyond-{name}"
    (args.out / f"{stem}.md").write_text("\n".join(lines) + "\n")
    worst = {row: (cost[row], min(values[: len(names)])) for row, values in rows.items()}
    draw(worst, f"{name}: the worst of {len(names)} OOD sets", args.out / f"{stem}.png")
    print("\n".join(lines))


def figures(score: Score, sets: dict[str, Numbers], names: list[str]) -> list[float]:
    """Return the AUROC on each OOD set, their mean and worst, and on the two controls."""
    known, as_jpeg = score(sets["test"]), score(sets["control/test as jpeg"])
    scores = {name: score(sets[f"ood/{name}"]) for name in names}
    cells = [auroc(known, values) for values in scores.values()]
    controls = [auroc(known, as_jpeg), auroc(as_jpeg, scores["tiny-images"])]
    return [*cells, sum(cells) / len(cells), min(cells), *controls]


if __name__ == "__main__":
    main()
