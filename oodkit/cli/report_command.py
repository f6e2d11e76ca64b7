"""`oodkit report`: what run folders hold, as one HTML page or as Markdown."""

import argparse
from pathlib import Path

from oodkit.cli.output import check_out, say, shown
from oodkit.errors import OptionError

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  oodkit report runs/fashion-mnist                        writes runs/fashion-mnist/report.html
  oodkit report runs/a runs/b --out both.html             several folders in one page
  oodkit report runs/fashion-mnist --explain              with maps of the highest-scoring images: takes longer
  oodkit report runs/fashion-mnist --markdown             tables on stdout

The page needs no network and follows the browser's light or dark theme. Where the paper (Choi et al. 2021) has a figure
for a cell, it stands below ours, with the difference."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folders, and where the report goes."""
    parser.add_argument("folders", nargs="+", metavar="RUN", type=Path, help="run folders of `oodkit bench`")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the HTML page; by default report.html in the first folder"
    )
    parser.add_argument(
        "--explain", action="store_true", help="add to the page why the highest-scoring images look strange"
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables and write no page")


def run(args: argparse.Namespace) -> int:
    """Write the report.

    Raises:
        OptionError: flags of the page where Markdown is asked for.
    """
    from oodkit.bench.report.runs import read_runs

    if args.markdown and (args.out is not None or args.explain):
        raise OptionError("--markdown prints tables on stdout; leave --out and --explain out, or write `> FILE`.")
    runs = read_runs(args.folders)
    if runs.damaged:
        say(f"oodkit: {runs.damaged} rows cannot be read and are left out.")
    if args.markdown:
        from oodkit.bench.report.markdown import as_markdown

        print(as_markdown(runs), end="")
        return 0
    from oodkit.artifact import write_atomically
    from oodkit.bench.report.page import as_html

    out = args.out or args.folders[0] / "report.html"
    check_out(out)
    write_atomically(out, as_html(runs, explain=args.explain).encode(errors="backslashreplace"))
    print(shown(str(out)))
    return 0
