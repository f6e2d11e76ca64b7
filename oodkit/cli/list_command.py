"""`oodkit list`: what is installed. No torch here."""

import argparse
import json

from oodkit.cli.output import results_console, shown

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  oodkit list
  oodkit list --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--json", action="store_true", help="Print one JSON document instead of tables.")


def run(args: argparse.Namespace) -> int:
    """Print all registered names, with the package that brings each."""
    from oodkit.registry import registry

    found = registry()
    tables = {
        "Detectors": found.detectors,
        "Models": found.models,
        "Data sets": found.datasets,
        "Curvatures": found.curvatures,
    }
    other_names: dict[str, list[str]] = {}
    for alias, name in found.aliases.items():
        other_names.setdefault(name, []).append(alias)
    listing = {
        title: [
            {
                "name": name,
                "aliases": other_names.get(name, []) if title == "Detectors" else [],
                "summary": entry.spec.summary,
                "package": entry.origin,
            }
            for name, entry in sorted(table.items())  # type: ignore[attr-defined]  # four dictionaries by name
        ]
        for title, table in tables.items()
    }
    if args.json:
        keys = {title: title.lower().replace(" ", "_") for title in listing}
        print(json.dumps({**{keys[t]: rows for t, rows in listing.items()}, "problems": found.problems}, indent=2))
        return 0

    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    console = results_console()
    for title, rows in listing.items():
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column(title, no_wrap=True, header_style="bold cyan")
        table.add_column("package", no_wrap=True)
        table.add_column("", overflow="fold")
        for row in rows:
            also = f" (also {', '.join(row['aliases'])})" if row["aliases"] else ""
            table.add_row(*(Text(shown(text)) for text in (row["name"], row["package"], row["summary"] + also)))
        console.print(table)
    for problem in found.problems:
        console.print(f"Problem: {shown(problem)}", style="red", markup=False)
    console.print("`oodkit show NAME` tells more about one of them.")
    return 0
