"""A richer model for CIFAR-10: an encoder that taught itself on in-distribution images, and densities of what it sees.

    python benchmarks/richer_model.py --model cifar10-n32-z200 --id cifar10 --folder runs/search
    python benchmarks/richer_model.py … --encoder-images cifar10-train.zip --epochs 6

The encoder, a CNN of five convolutions, learns from scratch to tell by how many quarter turns (Gidaris et al. 2018,
arXiv:1803.07728) and how much zoom an image was changed. Of each image it gives twelve numbers: how far the pooled
output of each stage lies from a Gaussian of the images that make ROSE's F (Mahalanobis), and −log p of the right answer
for each turn and each zoom (Golan and El-Yaniv 2018, arXiv:1805.10917). density_search.py's shifts judge them, alone
and beside the generative model's numbers, but for those that resemble what the encoder learnt; then come the OOD sets.
"""

import argparse
from datetime import date
from pathlib import Path

import torch
from beyond import Numbers, Score, among, density_of, figures
from density_search import KINDS
from image_numbers import OOD, arguments, collect, image_sets
from torch import Tensor, nn
from torch.nn import functional as F

import oodkit
from oodkit.bench.metrics import auroc

TURNS = 4
SIDES = (32, 27, 22)  # pixels of the centre that fill the frame
WIDTHS, STRIDES = (3, 32, 64, 128, 128, 256), (2, 1, 2, 1, 2)
TAUGHT = ("upside down", "turned", "blurred", "jpeg")  # shifts like what the encoder learnt, or learnt from


class Encoder(oodkit.Trainable):
    """Tells how an image was turned and zoomed."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
            for i, o, stride in zip(WIDTHS, WIDTHS[1:], STRIDES, strict=False)
        )
        self.turn, self.zoom = nn.Linear(WIDTHS[-1], TURNS), nn.Linear(WIDTHS[-1], len(SIDES))

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the cross-entropy of both answers; each image is turned and zoomed once, at random."""
        turns = torch.randint(TURNS, (len(images),), generator=generator)
        zooms = torch.randint(len(SIDES), (len(images),), generator=generator)
        changed = torch.empty(images.shape)
        for turn in range(TURNS):
            for zoom in range(len(SIDES)):
                chosen = (turns == turn) & (zooms == zoom)
                changed[chosen] = shown(images[chosen], turn, zoom)
        with torch.autocast("cpu", torch.bfloat16):
            features = self.features(changed)[-1]
        of_turn, of_zoom = self.turn(features.float()), self.zoom(features.float())
        return F.cross_entropy(of_turn, turns) + F.cross_entropy(of_zoom, zooms)

    def features(self, x: Tensor) -> list[Tensor]:
        """Return each stage's output, its mean over the positions, (N, width)."""
        x, found = x.contiguous(memory_format=torch.channels_last), []
        for stage in self.stages:
            x = stage(x)
            found.append(x.mean((2, 3)))
        return found

    def answers(self, images: Tensor) -> Numbers:
        """Return −log p of the right answer for each turn and zoom of uint8 (N, 3, 32, 32): float64 (N,) by name."""
        found = {}
        for turn in range(TURNS):
            logits = self.turn(self.features(shown(images, turn, 0))[-1]).double()
            found[f"answer/turn {turn}"] = -logits.log_softmax(1)[:, turn]
        for zoom, side in enumerate(SIDES):
            logits = self.zoom(self.features(shown(images, 0, zoom))[-1]).double()
            found[f"answer/zoom {side}"] = -logits.log_softmax(1)[:, zoom]
        return found


def shown(images: Tensor, turn: int, zoom: int) -> Tensor:
    """Return float32 (N, 3, 32, 32) around 0, turned, and its centre zoomed."""
    side, x = SIDES[zoom], torch.rot90(images, turn, (2, 3)).float() / 255 - 0.5
    if side == x.shape[-1]:
        return x
    start = (x.shape[-1] - side) // 2
    return F.interpolate(x[..., start : start + side, start : start + side], size=x.shape[-1], mode="bilinear")


def trained(args: argparse.Namespace, unseen: list[oodkit.ImageSet]) -> Encoder:
    """Return the encoder, trained on what `--encoder-images` names but for `unseen`; a stopped training goes on."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = Encoder().to(memory_format=torch.channels_last)
    apart = {image.numpy().tobytes() for images in unseen for image in images.images}
    images = oodkit.load_images(args.encoder_images, "train", image_shape=(3, 32, 32))
    kept = [i for i, image in enumerate(images.images) if image.numpy().tobytes() not in apart]
    recipe = oodkit.ModelOptions(
        epochs=args.epochs, batch_size=128, decay_every=max(1, args.epochs // 3), decay=0.3, flips=True
    )
    checkpoint = args.folder / f"encoder-{Path(args.encoder_images).stem}-{args.epochs}-{args.seed}.checkpoint"
    record = oodkit.optimise(encoder, images.select(torch.tensor(kept)), recipe, name="encoder", checkpoint=checkpoint)
    print(f"Encoder: {record['count']} images of {Path(args.encoder_images).name}, {args.epochs} epochs, ", end="")
    print(f"{record['seconds']:.0f} s; cross-entropies of the last: {record['losses'][-1]:.2f}.\n")
    return encoder


def encoder_numbers(encoder: Encoder, gaussians: list[oodkit.Density], images: Tensor) -> Numbers:
    """Return the twelve numbers of uint8 (N, 3, 32, 32), float64 (N,) by name."""
    stages = zip(gaussians, features(encoder, images), strict=True)
    numbers = {f"stage/{number}": gaussian.score(values) for number, (gaussian, values) in enumerate(stages, 1)}
    with torch.no_grad():
        rows = [encoder.answers(batch) for batch in images.split(256)]
    return numbers | {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


def features(encoder: Encoder, images: Tensor) -> list[Tensor]:
    with torch.no_grad():
        rows = [encoder.features(shown(batch, 0, 0)) for batch in images.split(256)]
    return [torch.cat(column) for column in zip(*rows, strict=True)]


def joined(parts: list[tuple[list[str], str]], fitting: Numbers) -> Score:
    """Return the score that adds −log of the empirical tails of several densities' scores.

    Four fifths of the fitting images make the densities, the others the tails.
    """
    cut = 4 * len(fitting["length/png"]) // 5
    first, rest = ({name: values[part] for name, values in fitting.items()} for part in (slice(cut), slice(cut, None)))
    densities = [density_of(names, first, density=kind) for names, kind in parts]

    def scores(numbers: Numbers) -> Tensor:
        return torch.stack([density(numbers) for density in densities], 1)

    tails = oodkit.fit_density(scores(rest), oodkit.DensityOptions(density="tails"))
    return lambda numbers: tails.score(scores(numbers))


def on_shifts(score: Score, sets: dict[str, Numbers]) -> tuple[float, float]:
    """Return the mean AUROC over the shifts that the encoder was not taught, and over all."""
    known = score(sets["held"])
    cells = {name: auroc(known, score(numbers)) for name, numbers in sets.items() if name.startswith("shift/")}
    others = [value for name, value in cells.items() if name.partition("/")[2] not in TAUGHT]
    return sum(others) / len(others), sum(cells.values()) / len(cells)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--encoder-images", help="set, file or folder that the encoder learns from; by default --id")
    parser.add_argument("--epochs", type=int, default=30, help="of the encoder")
    args = parser.parse_args()
    args.encoder_images = args.encoder_images or args.id
    sets = collect(args)
    fisher, density, held, images = image_sets(args, (3, 32, 32))
    encoder = trained(args, [density, held])
    gaussians = [oodkit.fit_density(values, oodkit.DensityOptions()) for values in features(encoder, fisher.images)]
    for name, load in images.items():
        sets[name] |= encoder_numbers(encoder, gaussians, load())
    fitting = sets["density"]
    model, lengths = among(fitting, "statistic/") + among(fitting, "length/"), among(fitting, "length/")
    stages, answers = among(fitting, "stage/"), among(fitting, "answer/")
    groups = {
        "lengths": lengths,
        "statistics, lengths": model,
        "stages": stages,
        "answers": answers,
        "stages, answers": stages + answers,
        "stages, answers, lengths": stages + answers + lengths,
        "stages, answers, statistics, lengths": stages + answers + model,
    }
    rows: dict[str, Score] = {}
    chosen = {}
    for group, names in groups.items():
        scores = {kind: density_of(names, fitting, density=kind) for kind in KINDS}
        kind = max(KINDS, key=lambda kind: on_shifts(scores[kind], sets)[0])
        rows[f"{group}: {kind}"], chosen[group] = scores[kind], (names, kind)
    pair = [chosen["statistics, lengths"], chosen["stages, answers"]]
    rows["statistics, lengths and stages, answers: p-values"] = joined(pair, fitting)
    known = [name for name in OOD if f"ood/{name}" in sets]
    print(f"{Path(args.model).stem}: images seed {args.seed}, {args.train} training and {args.test} test images a set;")
    print(f"encoder seed 0; CPU, {torch.get_num_threads()} threads, torch {torch.__version__}, {date.today()}.\n")
    heads = ["untaught shifts", "all shifts", *known, "mean", "worst", "ID as JPEG", "JPEG ID against tiny-images"]
    heads.append("test against held-out training images")
    print(f"| AUROC | {' | '.join(heads)} |\n|{' --- |' * (len(heads) + 1)}")
    for row, score in rows.items():
        cells = [*on_shifts(score, sets), *figures(score, sets, known)]
        cells.append(auroc(score(sets["held"]), score(sets["test"])))  # 0.5, where nothing was learnt by heart
        print(f"| {row} | {' | '.join(f'{value:.3f}' for value in cells)} |")


if __name__ == "__main__":
    main()
