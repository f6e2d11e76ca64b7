"""ROSE on a classifier, one layer at a time: AUROC by depth, as a Markdown table, a JSON file and a picture.

    OODKIT_DATA=<folder with the sets> python benchmarks/classifier_layers.py --network resnet18 --width 16

S = sᵀ F⁻¹ s of one layer ranks images as ROSE with that layer alone does; the last rows join all layers, and take the
classifier's own confidence. docs/methods/classifier.md has what it prints. The picture needs matplotlib
(`pip install 'oodkit[plots]'`); without it, `--redraw FILE.json` draws it later, on another machine.
"""

import argparse
import datetime
import importlib.util
import json
from pathlib import Path
from typing import Any

import torch

import oodkit
from oodkit import Classifier, ImageSet, create_detector, fit_curvature, layer_gradients, load_images, load_model
from oodkit.bench.metrics import auroc
from oodkit.device import device_name

NETWORKS = ("cnn", "vgg11", "vgg13", "vgg16", "vgg19", "resnet18")
OOD = "mnist,notmnist,omniglot,cifar10,rendered-digits,tiny-images,noise,constant"


def main() -> None:
    arguments = parsed()
    if arguments.redraw is not None:
        draw(json.loads(arguments.redraw.read_text()), arguments.redraw.with_suffix(".png"))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    channels = 3 if arguments.id.startswith(("cifar", "svhn")) else 1
    shape = (channels, 32, 32)
    known = load_images(arguments.id, "train", limit=arguments.train_limit, seed=arguments.seed, image_shape=shape)
    test = load_images(arguments.id, "test", limit=arguments.limit, seed=arguments.seed, image_shape=shape)
    others = [
        load_images(name, "test", limit=arguments.limit, seed=arguments.seed, image_shape=shape, reference=test)
        for name in arguments.ood.split(",")
    ]
    for network in arguments.networks:
        arguments.network = network
        file = arguments.folder / f"{arguments.network}-{arguments.id}-seed{arguments.seed}.json"
        if file.exists() and len(arguments.networks) > 1:  # a run that was cut short
            print_table(json.loads(file.read_text()))
            continue
        model = trained(known, arguments, file.with_suffix(".safetensors"))
        rows = layer_rows(model, known, test, others, arguments)
        rows |= joined_rows(model, known, test, others, arguments)
        result = {"network": arguments.network, "sets": [o.name for o in others], "rows": rows}
        result["conditions"] = conditions(model, test, arguments)
        print_table(result)
        file.write_text(json.dumps(result, indent=1))
        if len(arguments.networks) > 1:  # six networks' weights are too large to keep
            file.with_suffix(".safetensors").unlink()
        if importlib.util.find_spec("matplotlib") is None:
            print(f"\nNo picture: matplotlib is not installed. Draw it elsewhere with --redraw {file}")
        else:
            draw(result, file.with_suffix(".png"))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="cnn", help=f"of {', '.join(NETWORKS)}; several with commas, or `all`")
    parser.add_argument("--width", type=int, help="channels of the first convolution; by default the network's own")
    parser.add_argument("--id", default="fashion-mnist", help="a named set with labels")
    parser.add_argument("--ood", default=OOD, help="named sets, with commas")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--train-limit", type=int, default=12_000, help="training images")
    parser.add_argument("--limit", type=int, default=400, help="test images of each set")
    parser.add_argument("--fitting-images", type=int, default=2_000, help="training images that make F")
    parser.add_argument("--curvature", default="diag")
    parser.add_argument("--damping", type=float, default=1e-8, help="added to F's eigenvalues")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, default=Path("runs/classifier-layers"))
    parser.add_argument("--redraw", type=Path, metavar="FILE.json", help="only draw the picture of an earlier run")
    arguments = parser.parse_args()
    arguments.networks = list(NETWORKS) if arguments.network == "all" else arguments.network.split(",")
    if unknown := set(arguments.networks) - set(NETWORKS):
        parser.error(f"--network: {', '.join(sorted(unknown))}; there are {', '.join(NETWORKS)}")
    return arguments


def trained(known: ImageSet, arguments: argparse.Namespace, path: Path) -> Classifier:
    """Return the classifier of an earlier run, or a new one."""
    options: dict[str, Any] = {"network": arguments.network, "epochs": arguments.epochs, "width": arguments.width}
    if path.exists():
        model = load_model(path, arguments.device)
        if model.training_record["hash"] == known.hash and options.items() <= model.options.model_dump().items():
            return model  # type: ignore[return-value]  # the file is this script's own
    classes = int(known.labels.max()) + 1 if known.labels is not None else 2  # none: train_model says so
    model = oodkit.train_model(
        "classifier",
        known,
        seed=arguments.seed,
        device=arguments.device,
        checkpoint=path.with_suffix(".checkpoint"),
        classes=classes,
        **options,
    )
    model.save(path)
    path.with_suffix(".checkpoint").unlink(missing_ok=True)
    return model  # type: ignore[return-value]  # as above


def layer_rows(
    model: Classifier, known: ImageSet, test: ImageSet, others: list[ImageSet], arguments: argparse.Namespace
) -> dict[str, list[float]]:
    """Return the AUROC of each set for each layer, by the layer's name, in the order of the network."""
    detector = create_detector(f"rose-{arguments.curvature}", model, damping=arguments.damping)
    layers = model.curvature_layers()
    assert detector.curvature is not None
    approximations = {layer: detector.curvature(detector.options) for layer in layers}
    fitting = known.sample(arguments.fitting_images, arguments.seed)
    fit_curvature(model, fitting, approximations, batch_size=detector.batch_size)

    def scores(batch: torch.Tensor) -> torch.Tensor:  # (n, layers)
        gradients = layer_gradients(model, batch, layers)
        return torch.stack([approximations[layer].quadratic_form(g) for layer, g in gradients.items()], 1)

    of_test, *of_others = (detector.per_image(scores, images).cpu() for images in (test, *others))
    return {
        layer: [auroc(of_test[:, i].contiguous(), other[:, i].contiguous()) for other in of_others]
        for i, layer in enumerate(layers)
    }


def joined_rows(
    model: Classifier, known: ImageSet, test: ImageSet, others: list[ImageSet], arguments: argparse.Namespace
) -> dict[str, list[float]]:
    """Return the AUROC of each set for ROSE over all layers, and for −log p of the classifier's answer."""
    rose = {
        "fitting_images": arguments.fitting_images,
        "calibration_images": 1_000,
        "damping": arguments.damping,
        "seed": arguments.seed,
    }
    rows = {}
    for text, name, options in (
        ("all layers, max", f"rose-{arguments.curvature}", rose),
        ("all layers, log-Mahalanobis", f"rose-{arguments.curvature}", {**rose, "aggregation": "mahalanobis"}),
        ("−log max p(y\\|x)", "nll", {}),
    ):
        detector = create_detector(name, model, **options).fit(known)
        known_scores = detector.score(test)
        rows[text] = [auroc(known_scores, detector.score(images)) for images in others]
    return rows


def print_table(result: dict[str, Any]) -> None:
    sets = result["sets"]
    print("| AUROC | " + " | ".join(sets) + " | mean | worst |\n| --- " + "| --- " * (len(sets) + 2) + "|")
    for text, cells in result["rows"].items():
        numbers = [f"{cell:.3f}" for cell in (*cells, sum(cells) / len(cells), min(cells))]
        print(f"| {text.removeprefix('network.')} | " + " | ".join(numbers) + " |")
    print(f"\n{result['conditions']}")


def draw(result: dict[str, Any], file: Path) -> None:
    """Write the picture: AUROC over depth, a line for each set, and their mean."""
    from matplotlib.figure import Figure  # not pyplot: it looks for a screen

    layers = [name for name in result["rows"] if name.startswith("network.")]
    figure = Figure(figsize=(8.5, 4.8), layout="constrained")
    axes = figure.subplots()
    depth = range(1, len(layers) + 1)
    for i, name in enumerate(result["sets"]):
        axes.plot(depth, [result["rows"][layer][i] for layer in layers], marker="o", markersize=3, label=name)
    means = [sum(result["rows"][layer]) / len(result["sets"]) for layer in layers]
    axes.plot(depth, means, color="black", linewidth=2.5, label="mean")
    axes.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xticks(
        list(depth),
        [name.removeprefix("network.") for name in layers],
        rotation=60 if len(layers) > 8 else 0,
        fontsize=8,
    )
    axes.set(ylim=(0, 1.02), xlabel="layer (its name in `network`), from the image to the answer", ylabel="AUROC")
    axes.set_title(f"{result['network']}: ROSE with one layer at a time", fontsize=11)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(file, dpi=110)
    print(f"\nPicture: {file}")


def conditions(model: Classifier, test: ImageSet, arguments: argparse.Namespace) -> str:
    """Return what the figures depend on."""
    record = model.training_record
    with torch.no_grad():
        answers = torch.cat([model.predict(batch.to(model.device)).cpu() for batch in test.batches(100)])
    assert test.labels is not None  # it was trained on the same set's
    accuracy = (answers == test.labels).double().mean()
    return (
        f"{arguments.network}, width {model.options.model_dump()['width'] or 'default'}, seed {arguments.seed}, "
        f"{record['count']:,} images of {arguments.id}, {len(record['losses'])} epochs in "
        f"{record['seconds'] / 60:.1f} minutes: accuracy {accuracy:.3f} on {len(test)} test images. "
        f"{arguments.limit} images of each set, F ({arguments.curvature}, damping {arguments.damping:g}) from "
        f"{arguments.fitting_images:,} training images. {device_name(model.device)}, "
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, oodkit {oodkit.__version__}, torch {torch.__version__}."
    )


if __name__ == "__main__":
    main()
