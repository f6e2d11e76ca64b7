"""`oodkit bench`: the benchmark."""

import argparse

from oodkit.cli.output import results_console, say
from oodkit.cli.parser import add_settings

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  oodkit bench                                            needs no download, a few minutes
  oodkit bench --detector all --model vae --id digits
  oodkit bench --id fashion-mnist --ood mnist,notmnist,noise,constant --epochs 5
  oodkit bench --id my-pictures/ --ood other-pictures/,noise --resize --set vae.width=16
  oodkit bench --detector rose-ekfac --seeds 0,1,2 --set rose-ekfac.damping=1e-6 --json > result.json
  oodkit bench --spec run.toml --device cuda

Finished cells, models and detectors are kept in the run folder: the same command goes on where it was
stopped, and a second run takes seconds. A spec file has the fields as keys, and options in tables:
  detectors = ["rose-ekfac", "nll"]
  id = "fashion-mnist"
  ood = ["mnist", "noise"]
  seeds = [0, 1]
  [options.rose-ekfac]
  damping = 1e-6
Several tables [[run]] in it are as many runs in one folder; each changes what it names.

Pictures that cannot be read are counted on stderr, the first by name, and left out; the exit code stays 0.
"""

FLAGS = {  # field of BenchSpec -> its flags and what stands for a value
    "detectors": (["--detector", "--detectors"], "NAMES"),
    "model": (["--model"], "NAME"),
    "weights": (["--weights"], "FILE"),
    "id": (["--id"], "SET"),
    "ood": (["--ood"], "SETS"),
    "seeds": (["--seed", "--seeds"], "NUMBERS"),
    "model_seed": (["--model-seed"], "N"),
    "limit": (["--limit"], "N"),
    "train_limit": (["--train-limit"], "N"),
    "epochs": (["--epochs"], "N"),
    "batch_size": (["--batch-size"], "N"),
    "device": (["--device"], "DEVICE"),
    "run_folder": (["--run-folder"], "FOLDER"),
    "engine": (["--engine"], "NAME"),
    "engine_address": (["--engine-address"], "ADDRESS"),
}
SWITCHES = {"resize": True, "download": True, "skip_missing": True, "wait": True, "baseline": False}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags, with the help texts of the spec's fields."""
    from oodkit.bench.spec import BenchSpec

    for name, (flags, metavar) in FLAGS.items():
        field = BenchSpec.model_fields[name]
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        text = f"{field.description}" + (f" Default: {default}." if default not in (None, "") else "")
        parser.add_argument(*flags, dest=name, metavar=metavar, help=text.replace("%", "%%"))
    add_settings(parser, "rose-ekfac.damping=1e-6")
    for name, value in SWITCHES.items():
        flag = ("--" if value else "--no-") + name.replace("_", "-")
        text = f"{'' if value else 'Without '}{BenchSpec.model_fields[name].description}"
        parser.add_argument(flag, dest=name, action="store_const", const=value, help=text)
    parser.add_argument("--spec", metavar="FILE", help="A TOML file with any of these; flags win over it.")
    parser.add_argument("--json", action="store_true", help="Print one JSON document instead of tables.")


def run(args: argparse.Namespace) -> int:
    """Run the benchmark and print it."""
    from oodkit.bench.plan import make_plan
    from oodkit.bench.spec import parse_settings, read_specs

    flags = {name: getattr(args, name) for name in (*FLAGS, *SWITCHES)}
    specs = read_specs(args.spec, **flags, options=parse_settings(args.set))
    for spec in specs:
        make_plan(spec)  # before torch is imported, so that a typing error is answered at once

    from oodkit.bench.runner import run_bench
    from oodkit.bench.tables import as_json, failure_text, print_tables

    results = []
    for number, spec in enumerate(specs, 1):
        if len(specs) > 1:
            say(f"run {number} of {len(specs)}: {', '.join(spec.detectors)} with {spec.model} on {spec.id}")
        result = run_bench(spec, say)
        results.append(result)
        if not args.json:
            print_tables(result, results_console())
        for name, reason in result.left_out.items():
            say(f"{name} is left out: {reason}")
        if result.failures:
            say(f"oodkit: {failure_text(result)}")
    if args.json:
        print(as_json(results))
    return 1 if any(result.failures for result in results) else 0
