"""`oodkit fit`: a fitted detector, with its model, in a file."""

import argparse
from pathlib import Path

from oodkit.cli.output import check_out, say
from oodkit.cli.parser import add_settings, seed, settings_of
from oodkit.errors import OptionError

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  oodkit fit --detector rose-ekfac --model-file vae.oodkit --id digits --out rose.oodkit
  oodkit fit --detector rose-ekfac --model-file vae.oodkit --id pictures/ --resize --out rose.oodkit --set damping=1e-6
  oodkit fit --detector rose-plus --model-file vae.oodkit --id digits --calibration digits --out plus.oodkit

A model of your own:
  oodkit fit --detector rose-ekfac --model flow.py:make --weights flow.safetensors --id my-pictures/ --out rose.oodkit

Two processes, or a GPU each:
  torchrun --standalone --nproc-per-node 2 -m oodkit fit --detector rose-ekfac --model-file vae.oodkit \\
    --id digits --out rose.oodkit

Give the images that the model was trained on. The file holds the model too: `oodkit score` needs nothing else.
Pictures that cannot be read are named on stderr and left out; the exit code stays 0."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--detector", metavar="NAME", required=True, help="The detector.")
    parser.add_argument("--model-file", metavar="FILE", help="A model that `oodkit train` wrote.")
    parser.add_argument("--model", metavar="FILE.py:FUNCTION", help="Instead: a model of your own; the file is run.")
    parser.add_argument("--weights", metavar="FILE", type=Path, help="Weights of a model of your own, safetensors.")
    parser.add_argument("--id", metavar="SET", required=True, help="The training images: a name or a path.")
    parser.add_argument("--out", metavar="FILE", required=True, type=Path, help="Where the detector goes.")
    parser.add_argument(
        "--calibration",
        metavar="SET",
        help="In-distribution images that the model has not seen (of a named set, the test images), for p-values.",
    )
    parser.add_argument("--limit", metavar="N", type=int, help="Training images, at most; by default all.")
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="Of the detector. Default: 0.")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N. Default: auto.")
    parser.add_argument("--batch-size", metavar="N", type=int, help="Images at a time.")
    parser.add_argument("--download", action="store_true", help="Fetch a named set that is not on this machine.")
    parser.add_argument("--resize", action="store_true", help="Convert pictures given by path to the model's size.")
    add_settings(parser, "rose-ekfac.damping=1e-6")


def run(args: argparse.Namespace) -> int:
    """Fit and save.

    Raises:
        OptionError: the detector needs a model and got none; several detectors; a file that would be lost.
    """
    from oodkit.registry import detector_options, registry

    if "," in args.detector or args.detector == "all":
        raise OptionError(f"fit takes one detector, not {args.detector}; `oodkit bench` compares several.")
    entry = registry().detector(args.detector)
    name = entry.spec.name
    options = detector_options(entry).parse(name, {"seed": args.seed, **settings_of(args.set, args.detector)})
    if args.model is not None and args.model_file is not None:
        raise OptionError("give --model-file, or --model for a model of your own, not both.")
    if args.weights is not None and args.model is None:
        raise OptionError("--weights go with a model of your own: --model path/to/module.py:FUNCTION.")
    if entry.spec.model != "none" and args.model_file is None and args.model is None:
        raise OptionError(f"{name} needs a model: give --model-file FILE, which `oodkit train --out FILE` writes.")

    from oodkit.adapted import load_own_model
    from oodkit.bench.sets import load_train_images
    from oodkit.device import resolve_device
    from oodkit.distributed import first_process
    from oodkit.loading import load_images
    from oodkit.named_detectors import create_detector
    from oodkit.named_models import load_model

    for given in (args.model_file, args.weights):
        if given is not None and Path(given).exists() and Path(args.out).exists() and Path(args.out).samefile(given):
            raise OptionError(f"--out {args.out} is the model's own file, which would be lost; choose another.")
    check_out(args.out)
    device = resolve_device(args.device)
    model = None
    if entry.spec.model != "none":
        own = args.model is not None
        model = load_own_model(args.model, args.weights, device) if own else load_model(args.model_file, device)
    detector = create_detector(name, model, device=device, batch_size=args.batch_size, **options.model_dump())
    images = load_train_images(
        args.id,
        limit=args.limit,
        seed=args.seed,
        image_shape=detector.image_shape,
        download=args.download,
        resize=args.resize,
    )
    for sentence in images.skipped:
        say(f"oodkit: {sentence}")
    detector.fit(images)
    calibrated = ""
    if args.calibration is not None:
        held = load_images(
            args.calibration,
            "test",
            image_shape=detector.image_shape,
            download=args.download,
            resize=args.resize,
        )
        for sentence in held.skipped:
            say(f"oodkit: {sentence}")
        detector.calibrate(held)
        calibrated = f", calibrated on {len(held):,} of {held.name}"
    if first_process():
        detector.save(args.out)
    say(f"{args.out}: {name}, fitted to {len(images):,} images of {images.name}{calibrated}")
    return 0
