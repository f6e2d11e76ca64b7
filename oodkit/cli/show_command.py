"""`oodkit show NAME`: one detector, model, data set or curvature. No torch here."""

import argparse
import json
import types
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from oodkit.cli.output import results_console
from oodkit.errors import UnknownNameError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from oodkit.options import Options

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  oodkit show rose-ekfac
  oodkit show vae
  oodkit show fashion-mnist --json"""

SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", metavar="NAME", help="A name that `oodkit list` shows.")
    parser.add_argument("--json", action="store_true", help="Print one JSON document instead of text.")


def run(args: argparse.Namespace) -> int:
    """Print all that carries the name."""
    found = _describe(args.name)
    if args.json:
        print(json.dumps(found, indent=2))
        return 0

    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    console = results_console()
    for one in found:
        console.print(Text.assemble((one["name"], "bold cyan"), f": {one['kind']}, from {one['package']}"))
        console.print(Text(one["summary"]))
        for title, text in one["facts"].items():
            console.print(Text(f"{title}: {text}"))
        if one["options"]:
            table = Table(box=SIMPLE_HEAD, pad_edge=False)
            table.add_column("option", no_wrap=True)
            table.add_column("default", overflow="fold")
            table.add_column("allowed, and what it is", overflow="fold")
            for option in one["options"]:
                told = Text.assemble((option["allowed"], "green"), f": {option['description']}")
                table.add_row(Text(option["name"]), Text(option["default"]), told)
            console.print(table)
            if one["kind"] in ("detector", "model"):
                first = one["options"][0]
                console.print(Text(f"On the command line: --set {one['name']}.{first['name']}={first['default']}"))
    return 0


def _describe(name: str) -> list[dict[str, Any]]:  # Any: what JSON can hold
    from oodkit.options import CurvatureOptions
    from oodkit.registry import detector_options, load_target, model_options, registry

    r = registry()
    found = []
    known = r.aliases.get(name, name)
    if known in r.detectors:
        detector = r.detectors[known]
        needs = {"any": "any model", "density": "a density of images", "none": "no model"}.get(
            detector.spec.model, f"a {detector.spec.model} model"
        )
        facts = {"Needs": needs, "Source": detector.spec.source}
        if detector.curvature is not None:
            facts["Source of its curvature"] = detector.curvature.source
        facts["Also called"] = ", ".join(a for a, n in r.aliases.items() if n == known)
        found.append(_entry("detector", detector, facts, detector_options(detector)))
    if name in r.models:
        model = r.models[name]
        facts = {"Kind": model.spec.kind, "Source": model.spec.source}
        found.append(_entry("model", model, facts, model_options(model)))
    if name in r.datasets:
        dataset = r.datasets[name]
        made = "the in-distribution test images" if dataset.spec.derived else ""
        facts = {
            "Splits": ", ".join(dataset.spec.splits),
            "Made from": made,
            "A model that trains on it takes": ", ".join(f"{k} = {_as_set(v)}" for k, v in dataset.spec.recipe.items()),
            "Source": dataset.spec.source,
        }
        found.append(_entry("data set", dataset, facts, None))
    if name in r.curvatures:
        curvature = r.curvatures[name]
        users = ", ".join(n for n, d in r.detectors.items() if d.curvature is not None and d.curvature.name == name)
        options: type[CurvatureOptions] = load_target(curvature.spec.options, name)
        found.append(_entry("curvature", curvature, {"Used by": users, "Source": curvature.spec.source}, options))
    if not found:
        everything = [*r.detectors, *r.aliases, *r.models, *r.datasets, *r.curvatures]
        raise UnknownNameError.of("detector, model, data set or curvature", name, everything)
    return found


def _entry(
    kind: str, entry: Any, facts: dict[str, str], options: "type[Options] | None"
) -> dict[str, Any]:  # Any: a Registered of one of four specs; what JSON can hold
    return {
        "name": entry.spec.name,
        "kind": kind,
        "package": entry.origin,
        "summary": entry.spec.summary,
        "facts": {title: text for title, text in facts.items() if text},
        "options": [_option(name, field) for name, field in options.model_fields.items()] if options else [],
    }


def _option(name: str, field: "FieldInfo") -> dict[str, str]:
    return {
        "name": name,
        "default": _as_set(field.default),
        "allowed": _allowed(field),
        "description": field.description or "",
    }


def _as_set(value: Any) -> str:  # Any: an option's value
    """Return a value as --set takes it."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value in (None, True, False) else str(value)


def _allowed(field: "FieldInfo") -> str:
    """Return the type and limits in words: "float ≥ 0", "apart, same", "int ≥ 1 or none"."""
    limits = [f"{SIGNS[sign]} {getattr(m, sign)}" for m in field.metadata for sign in SIGNS if hasattr(m, sign)]
    kinds = [_kind(k) for k in _members(field.annotation) if k is not type(None)]
    text = " ".join([" or ".join(kinds), " and ".join(limits)]).strip()
    return f"{text}, or none" if type(None) in _members(field.annotation) else text


def _members(annotation: Any) -> tuple[Any, ...]:  # Any: a type annotation
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _kind(annotation: Any) -> str:  # Any: a type annotation
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) in (tuple, list):
        return "texts with commas"
    return {str: "text", bool: "true, false"}.get(annotation, getattr(annotation, "__name__", str(annotation)))
