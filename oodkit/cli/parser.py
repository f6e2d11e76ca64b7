"""The parser: one sentence for a mistake, with near misses; only the chosen command's module is imported."""

import argparse
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import NoReturn

from oodkit import __version__
from oodkit.errors import OptionError

__all__ = ["add_settings", "at_least_one", "build_parser", "parse", "seed", "settings_of"]

COMMANDS = {  # command -> what it does; its module is oodkit.cli.<command>_command
    "bench": "compare detectors on OOD sets: train, fit, score, one table",
    "report": "write a page of what run folders hold, beside the paper's figures",
    "list": "detectors, models, data sets and curvatures that are installed",
    "show": "one of them: options, defaults, limits, source",
    "train": "train a model and save it",
    "fit": "fit a detector to a model and save both in one file",
    "score": "score pictures with a fitted detector",
    "explain": "say what makes pictures look strange: which numbers, which part of the picture",
    "perturb": "draw what the perturbations do to a few images",
    "check": "run the conformance checks of a detector, model, data set or curvature",
    "new": "write a plugin package that installs and passes its checks",
}

DESCRIPTION = """oodkit tells when an image is out-of-distribution for a deep generative model."""
EXAMPLES = """examples:
  oodkit bench --detector rose-ekfac,nll --model vae
  oodkit bench --id fashion-mnist --ood mnist,notmnist,noise --detector all
  oodkit list
  oodkit show rose-ekfac
  oodkit train --model vae --id my-pictures/ --resize --out vae.oodkit
  oodkit fit --detector rose-ekfac --model-file vae.oodkit --id my-pictures/ --resize --out rose.oodkit
  oodkit score new-pictures/ --detector-file rose.oodkit --resize
  oodkit explain picture.png --detector-file rose.oodkit --out maps/

`oodkit COMMAND --help` has more."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            OptionError: always.
        """
        raise OptionError(f"{message[0].lower()}{message[1:]}; see `{self.prog} --help`.")


def build_parser(arguments: list[str]) -> argparse.ArgumentParser:
    """Return the parser; of the commands, only the one that `arguments` name has its options.

    Raises:
        OptionError: there is no such command.
    """
    parser = _Parser(
        prog="oodkit",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"oodkit {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    chosen = next((a for a in arguments if not a.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        raise OptionError(f"there is no command {chosen!r}{_near(chosen, COMMANDS)}; see `oodkit --help`.")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        if name == chosen:
            module = import_module(f"oodkit.cli.{name}_command")
            command.description = f"{summary[0].upper()}{summary[1:]}."
            command.epilog = module.EXAMPLES
            module.add_arguments(command)
            command.set_defaults(run=module.run, parser=command)
    return parser


def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Return the parsed arguments.

    Raises:
        OptionError: an unknown flag, a missing value, or a missing argument.
    """
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        flags = [flag for action in args.parser._actions for flag in action.option_strings]
        flag = unknown[0].partition("=")[0]
        raise OptionError(
            f"{args.parser.prog} does not know {flag}{_near(flag, flags)}; see `{args.parser.prog} --help`."
        )
    return args


def add_settings(parser: argparse.ArgumentParser, example: str) -> None:
    """Add --set, which any number of options may follow."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME.OPTION=VALUE",
        help=f"an option of a detector or model, such as {example}; may be repeated; `oodkit show NAME` has them all",
    )


def seed(text: str) -> int:
    """Return a seed from the command line.

    Raises:
        argparse.ArgumentTypeError: no whole number, or one that no generator takes.
    """
    from oodkit.options import MAX_SEED

    if not text.isdecimal() or len(text) > 10 or int(text) > MAX_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed; give a whole number from 0 to {MAX_SEED}")
    return int(text)


def at_least_one(text: str) -> int:
    """Return how many of something, from the command line.

    Raises:
        argparse.ArgumentTypeError: no whole number, or less than 1.
    """
    if not text.isdecimal() or len(text) > 10 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give a whole number, at least 1")
    return int(text)


def _near(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def settings_of(texts: list[str], name: str) -> dict[str, str]:
    """Return the options of the one thing called `name`, from `OPTION=VALUE` or `NAME.OPTION=VALUE` texts.

    Raises:
        OptionError: a text of another form, or for something else.
    """
    from oodkit.bench.spec import parse_settings

    full = [text if "." in text.partition("=")[0] else f"{name}.{text}" for text in texts]
    settings = parse_settings(full)
    others = settings.keys() - {name}
    if others:
        raise OptionError(f"--set {others.pop()}.…: only {name} takes options here.")
    return settings.get(name, {})
