"""`oodkit new KIND NAME`: a plugin package to start from. No torch here."""

import argparse
from pathlib import Path

from oodkit.cli.output import say

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  oodkit new detector typical
  cd oodkit-typical && pip install -e . && oodkit check typical

Writes a folder oodkit-NAME: pyproject.toml with the entry point, the code, its options, a test file of
conformance checks, a README. It installs and passes at once; then make it yours."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from oodkit.scaffold import KINDS

    parser.add_argument("kind", metavar="KIND", choices=KINDS, help=f"{', '.join(KINDS)}.")
    parser.add_argument("name", metavar="NAME", help="What it is to be called: small letters, digits and dashes.")
    parser.add_argument("--folder", metavar="FOLDER", type=Path, default=Path(), help="Where. Default: here.")


def run(args: argparse.Namespace) -> int:
    """Write the package and say what comes next."""
    from oodkit.scaffold import write_package

    folder = write_package(args.kind, args.name, args.folder)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        print(file)
    say(f"Next: pip install -e {folder}, then `oodkit check {args.name}`; its tests: pytest {folder}.")
    return 0
