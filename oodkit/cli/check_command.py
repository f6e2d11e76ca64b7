"""`oodkit check NAME`: the conformance kit from the shell."""

import argparse
import json
import time
import traceback
from collections.abc import Callable
from typing import Any
from unittest import SkipTest

from oodkit.cli.output import results_console
from oodkit.cli.parser import add_settings, settings_of
from oodkit.errors import OptionError, UnknownNameError

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  oodkit check nll
  oodkit check rnd-svd --set epochs=8 --set architecture=small    options make a slow plugin quick
  oodkit check my-data --json

Exit code 1 where a check failed. Installed names only: a package of your own needs `pip install -e .` first."""

MARKS = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "name", metavar="NAME", help="A detector, model, data set or curvature that `oodkit list` shows."
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON document instead of tables.")
    add_settings(parser, "epochs=1")


def run(args: argparse.Namespace) -> int:
    """Run all checks of all that carries the name."""
    found = _kits(args.name, args.set)
    results = {kind: [_outcome(check) for check in checks] for kind, checks in found.items()}
    if args.json:
        print(json.dumps({"name": args.name, **results}, indent=2))
    else:
        _print(args.name, results)
    return int(any(one["outcome"] == "failed" for rows in results.values() for one in rows))


def _kits(name: str, settings: list[str]) -> dict[str, list[Callable[[], None]]]:
    """Return the checks by kind.

    Raises:
        OptionError: a data set takes no options.
    """
    from oodkit.registry import detector_options, load_target, model_options, registry

    found = registry()
    name_of = found.aliases.get(name, name)
    tables: list[Any] = [found.detectors, found.models, found.datasets, found.curvatures]  # Any: four kinds of entries
    _find(name_of, tables, found.aliases)
    given = settings_of(settings, name_of)
    if given and name_of in found.datasets:
        raise OptionError(f"{name_of} is a data set: it takes no options.")

    def options(kind: Any) -> dict[str, Any]:  # Any: an options class; an option's value
        parsed = kind.parse(name_of, dict(given))
        return {key: getattr(parsed, key) for key in given}

    from oodkit.testing import curvature_checks, dataset_checks, detector_checks, model_checks

    kits = {}
    if name_of in found.detectors:
        kits["detector"] = detector_checks(name_of, **options(detector_options(found.detector(name_of))))
    if name_of in found.models:
        kits["model"] = model_checks(name_of, **options(model_options(found.model(name_of))))
    if name_of in found.datasets:
        kits["data set"] = dataset_checks(name_of)
    if name_of in found.curvatures:
        target = load_target(found.curvature(name_of).spec.options, name_of)
        kits["curvature"] = curvature_checks(name_of, **options(target))
    return kits


def _find(name: str, tables: list[Any], aliases: dict[str, str]) -> None:  # Any: as above
    if not any(name in table for table in tables):
        everything = [known for table in (*tables, aliases) for known in table]
        raise UnknownNameError.of("detector, model, data set or curvature", name, everything)


def _outcome(check: Callable[[], None]) -> dict[str, Any]:  # Any: what JSON can hold
    start, outcome, reason = time.perf_counter(), "passed", ""
    try:
        check()
    except SkipTest as skipped:
        outcome, reason = "skipped", str(skipped)
    except AssertionError as error:
        outcome, reason = "failed", str(error) or _place(error)
    except Exception as error:  # a plugin may raise anything
        outcome, reason = "failed", f"{type(error).__name__}: {error} ({_place(error)})"
    promise = (check.__doc__ or "").partition("\n")[0]
    name = check.__name__.removeprefix("check_").replace("_", " ")
    seconds = round(time.perf_counter() - start, 2)
    return {"check": name, "outcome": outcome, "reason": reason, "promise": promise, "seconds": seconds}


def _place(error: Exception) -> str:
    """Return the file and line where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}, line {last.lineno}"


def _print(name: str, results: dict[str, list[dict[str, Any]]]) -> None:  # Any: as above
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    console = results_console()
    for kind, rows in results.items():
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column(Text(f"{name} ({kind})"), no_wrap=True, header_style="bold cyan")
        table.add_column("", no_wrap=True)
        table.add_column("promise, or what is wrong", overflow="fold")
        table.add_column("s", justify="right", no_wrap=True)
        for row in rows:
            outcome = Text(row["outcome"], MARKS[row["outcome"]])
            table.add_row(Text(row["check"]), outcome, Text(row["reason"] or row["promise"]), f"{row['seconds']:.1f}")
        console.print(table)
        counts = {mark: sum(row["outcome"] == mark for row in rows) for mark in MARKS}
        console.print(", ".join(f"{count} {mark}" for mark, count in counts.items() if count))
