"""Fills in what the pages say is made from the code: mkdocs calls this when it builds them."""

import contextlib
import io
import json
import os
from typing import Any

import oodkit
from oodkit.cli import main
from oodkit.cli.parser import COMMANDS


def on_page_markdown(markdown: str, **_: Any) -> str:  # Any: mkdocs' page, config and files
    """Return the page with its markers replaced."""
    for marker, text in (
        ("<!-- options -->", _options),
        ("<!-- commands -->", _commands),
        ("<!-- python -->", _public_names),
    ):
        if marker in markdown:
            markdown = markdown.replace(marker, text())
    return markdown


def _public_names() -> str:
    homes = {name: getattr(getattr(oodkit, name), "__module__", "") for name in oodkit.__all__}
    # The hooks, their marker and their specs follow, in oodkit.plugin.
    ours = {name: home for name, home in homes.items() if home.startswith("oodkit.") and home != "oodkit.plugin"}
    return "\n".join(f"::: {home}.{name}" for name, home in ours.items())


def _printed(*arguments: str) -> str:
    output = io.StringIO()
    os.environ["COLUMNS"] = "80"
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        main(arguments)
    return output.getvalue()


def _commands() -> str:
    parts = [f"```\n{_printed('--help')}```\n"]
    return "\n".join(parts + [f"## oodkit {name}\n\n```\n{_printed(name, '--help')}```\n" for name in COMMANDS])


def _options() -> str:
    listing = json.loads(_printed("list", "--json"))
    parts = []
    for title in ("detectors", "models", "curvatures"):
        parts.append(f"## {title.capitalize()}\n")
        parts += [_entry(row["name"], title[:-1]) for row in listing[title]]
    return "\n".join(parts)


def _entry(name: str, kind: str) -> str:
    (found,) = (one for one in json.loads(_printed("show", name, "--json")) if one["kind"] == kind)
    lines = [f"### {name}\n", f"{found['summary']}. From {found['package']}.\n"]
    lines += [f"- {title}: {text}" for title, text in found["facts"].items()]
    if found["options"]:
        lines += ["", "| option | default | allowed | |", "| --- | --- | --- | --- |"]
        cells = [[o["name"], o["default"], o["allowed"], o["description"]] for o in found["options"]]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
    return "\n".join(lines) + "\n"
