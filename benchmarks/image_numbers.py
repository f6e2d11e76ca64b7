"""Numbers of each image of many sets, kept in a folder: what density_search.py and beyond.py work on.

They need the real sets (OODKIT_DATA), and for the paper's VAEs the authors' weights (OODKIT_REFERENCE).
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from reference import reference_vae
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

import oodkit
from oodkit.perturbations import brightness, jpeg
from oodkit.registry import load_target, registry

__all__ = ["DAMPINGS", "OOD", "SEALED", "arguments", "collect", "image_sets", "matrix", "model_of"]

OOD = "mnist fashion-mnist notmnist omniglot cifar10 rendered-digits tiny-images noise constant".split()
SEALED = "notmnist rendered-digits tiny-images".split()
DAMPINGS = {"1e-8": (1e-8, 0.0), "0.1": (1e-8, 0.1)}


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what says which numbers of which images."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a saved model, or the name of the authors' weights")
    parser.add_argument("--id", required=True)
    parser.add_argument("--curvature", default="ekfac")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--train", type=int, nargs=3, default=(2200, 1000, 200), help="images for F, the density, the shifts"
    )
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    return parser


def model_of(args: argparse.Namespace) -> oodkit.GenerativeModel:
    """Return the model that `--model` names, on the CPU."""
    return oodkit.load_model(args.model, "cpu") if Path(args.model).exists() else reference_vae(args.model)


# --- the same images, changed -------------------------------------------------------------------------------------


def shifts(channels: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the changes by name, each from uint8 (N, C, 32, 32) to the same."""
    common = {
        "upside down": lambda x: x.flip(2),
        "turned": lambda x: torch.rot90(x, 1, (2, 3)),
        "inverted": lambda x: 255 - x,
        "dimmed": lambda x: brightness(x, 0.4),
        "less contrast": lambda x: rounded((x.double() - 128) * 0.5 + 128),
        "blurred": lambda x: resized(x, 20),
        "noisy": lambda x: rounded(x + 12 * torch.randn(x.shape, generator=generator())),
        "patches moved": moved,
        "mixed": lambda x: ((x.int() + x.roll(1, 0).int()) // 2).to(torch.uint8),
        "quarters of four": quarters,
        "jpeg": jpeg,
        "steps": lambda x: x // 48 * 48 + 24,
    }
    if channels == 3:
        common["channels changed"] = lambda x: x[:, [2, 0, 1]]
        common["grey"] = lambda x: rounded(x.double().mean(1, keepdim=True).expand(-1, 3, -1, -1))
    return common


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def rounded(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)


def resized(x: Tensor, side: int) -> Tensor:
    small = F.interpolate(x.double(), size=side, mode="bilinear", antialias=True)
    return rounded(F.interpolate(small, size=x.shape[-1], mode="bilinear"))


def moved(x: Tensor) -> Tensor:
    """Return the images with their sixteen 8x8 patches in another order, the same for all."""
    patches = F.unfold(x.double(), 8, stride=8)
    order = torch.randperm(patches.shape[2], generator=generator())
    return rounded(F.fold(patches[:, :, order], x.shape[2:], 8, stride=8))


def quarters(x: Tensor) -> Tensor:
    a, b, c, d = (x.roll(k, 0) for k in range(4))
    top = torch.cat([a[..., :16, :16], b[..., :16, 16:]], 3)
    return torch.cat([top, torch.cat([c[..., 16:, :16], d[..., 16:, 16:]], 3)], 2)


# --- numbers of each image ----------------------------------------------------------------------------------------


class Numbers:
    """S of each layer at each damping, squared gradient norms, the model's statistics, lengths as files."""

    def __init__(self, model: oodkit.GenerativeModel, curvature: str, batch_size: int) -> None:
        spec = registry().curvature(curvature).spec
        self.model, self.batch_size = model, batch_size
        kind, options = load_target(spec.target, curvature), load_target(spec.options, curvature)
        self.kinds = {
            name: {layer: kind(options(damping=d, relative_damping=r)) for layer in model.curvature_layers()}
            for name, (d, r) in DAMPINGS.items()
        }

    def fit(self, images: oodkit.ImageSet) -> None:
        first, *others = self.kinds.values()
        oodkit.fit_curvature(self.model, images, first, batch_size=self.batch_size)
        for approximations in others:
            for layer, approximation in approximations.items():
                approximation.state = first[layer].state

    def of(self, images: Tensor) -> dict[str, Tensor]:
        """Return float64 (N,) by name, of uint8 (N, C, H, W)."""
        rows = [self._of_batch(batch) for batch in images.split(self.batch_size)]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def _of_batch(self, images: Tensor) -> dict[str, Tensor]:
        numbers = {}
        with torch.no_grad():
            for layer, gradient in oodkit.layer_gradients(self.model, images).items():
                for name, approximations in self.kinds.items():
                    numbers[f"layer {name}/{layer}"] = approximations[layer].quadratic_form(gradient)
                numbers[f"norm/{layer}"] = gradient.dense().square().flatten(1).sum(1)
            numbers |= {f"statistic/{name}": values for name, values in self.model.statistics(images).items()}
        lengths = oodkit.compressed_lengths(images, ("png", "jp2", "jpeg"))
        numbers |= {f"length/{name}": column for name, column in zip(("png", "jp2", "jpeg"), lengths.T, strict=True)}
        return {name: values.double() for name, values in numbers.items()}


def image_sets(
    args: argparse.Namespace, shape: tuple[int, int, int]
) -> tuple[oodkit.ImageSet, oodkit.ImageSet, oodkit.ImageSet, dict[str, Callable[[], Tensor]]]:
    """Return the training images that make F, those of the density, those held back; and every set by its name."""
    f, d, h = args.train
    train = oodkit.load_images(args.id, "train", limit=f + d + h, seed=args.seed, image_shape=shape)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(args.seed))
    fisher, density, held = (train.select(part) for part in order.split([f, d, len(train) - f - d]))

    def ood(name: str) -> Tensor:
        return oodkit.load_images(name, "test", limit=args.test, seed=args.seed, image_shape=shape).images

    test = oodkit.load_images(args.id, "test", limit=args.test, seed=args.seed, image_shape=shape)
    wanted: dict[str, Callable[[], Tensor]] = {"density": lambda: density.images, "held": lambda: held.images}
    changes = shifts(shape[0])
    wanted |= {f"shift/{name}": lambda change=change: change(held.images) for name, change in changes.items()}
    wanted |= {"test": lambda: test.images, "control/test as jpeg": lambda: jpeg(test.images)}
    wanted |= {f"ood/{name}": lambda name=name: ood(name) for name in OOD if name != args.id}
    return fisher, density, held, wanted


def collect(args: argparse.Namespace) -> dict[str, dict[str, Tensor]]:
    """Return the numbers of every set by its name, from the folder where they are there."""
    folder = args.folder / f"{Path(args.model).stem}-{args.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    model = model_of(args)
    fisher, density, held, wanted = image_sets(args, model.image_shape)
    numbers, results = None, {}
    for name, images in wanted.items():
        file = folder / f"{name.replace('/', ' ')}.safetensors"
        if not file.exists():
            if numbers is None:
                print(f"# F from {len(fisher)} images", file=sys.stderr, flush=True)
                numbers = Numbers(model, args.curvature, args.batch_size)
                numbers.fit(fisher)
            save_file({k: v.contiguous() for k, v in numbers.of(images()).items()}, file)
            print(f"# {name}", file=sys.stderr, flush=True)
        results[name] = load_file(file)
    for name, part in (("density", density), ("held", held)):
        if part.labels is not None:
            results[name]["label"] = part.labels
    return results


def matrix(numbers: dict[str, Tensor], names: list[str]) -> Tensor:
    return torch.stack([numbers[name] for name in names], 1)
