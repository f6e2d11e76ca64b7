"""`oodkit train`: a model in a file."""

import argparse
from pathlib import Path

from oodkit.cli.output import check_out, say
from oodkit.cli.parser import add_settings, seed, settings_of
from oodkit.plugin import ModelSpec

OWN = ModelSpec(name="own", target="", summary="a model of your own")  # for its recipe: epochs, learning_rate, …

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  oodkit train --model vae --id digits --out vae.oodkit
  oodkit train --model vae --id my-pictures/ --resize --out vae.oodkit --epochs 20 --set vae.width=16
  oodkit train --model flow.py:make --id my-pictures/ --out flow.safetensors     a model of your own; its file is run

Stopped by Ctrl-C or a kill, the same command goes on from the last finished epoch. Of a path without
folders train and test, a fifth is held back: the images that `oodkit bench` would test with. Pictures that
cannot be read are named on stderr and left out; the exit code stays 0."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--model", metavar="NAME", default="vae", help="The model, or your own: FILE.py:FUNCTION. Default: vae."
    )
    parser.add_argument("--id", metavar="SET", required=True, help="The training images: a name or a path.")
    parser.add_argument("--out", metavar="FILE", required=True, type=Path, help="Where the model goes.")
    parser.add_argument("--epochs", metavar="N", help="Short for the model's option `epochs`.")
    parser.add_argument("--limit", metavar="N", type=int, help="Training images, at most; by default all.")
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="Of weights, order and noise. Default: 0.")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N. Default: auto.")
    parser.add_argument(
        "--checkpoint", metavar="FILE", type=Path, help="Written after every epoch. Default: FILE.checkpoint."
    )
    parser.add_argument("--download", action="store_true", help="Fetch a named set that is not on this machine.")
    parser.add_argument("--resize", action="store_true", help="Convert pictures given by path to the model's size.")
    add_settings(parser, "vae.width=16")


def run(args: argparse.Namespace) -> int:
    """Train and save."""
    from oodkit.bench.plan import is_own_model, training_options
    from oodkit.registry import Registered, registry

    own = is_own_model(args.model)
    entry = Registered(OWN, "", "") if own else registry().model(args.model)
    settings = settings_of(args.set, entry.spec.name)
    if args.epochs is not None:
        settings["epochs"] = args.epochs
    options = training_options(entry, args.id, settings)

    from oodkit.adapted import load_own_model
    from oodkit.bench.sets import load_train_images
    from oodkit.device import resolve_device
    from oodkit.named_models import train_model

    check_out(args.out)
    device = resolve_device(args.device)
    model = load_own_model(args.model, None, device) if own else entry.spec.name
    images = load_train_images(
        args.id,
        limit=args.limit,
        seed=args.seed,
        image_shape=model.image_shape if not isinstance(model, str) else None,
        download=args.download,
        resize=args.resize,
    )
    for sentence in images.skipped:
        say(f"oodkit: {sentence}")
    checkpoint = args.checkpoint or args.out.with_name(f"{args.out.name}.checkpoint")
    model = train_model(model, images, seed=args.seed, device=device, checkpoint=checkpoint, **options.model_dump())
    model.save(args.out)
    checkpoint.unlink(missing_ok=True)
    losses = model.training_record["losses"]
    say(f"{args.out}: {args.model}, {len(images):,} images" + (f", {model.loss_text(losses[-1])}" if losses else ""))
    return 0
