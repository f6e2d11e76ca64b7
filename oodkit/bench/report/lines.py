"""From rows to lines of a report: which rows measure one thing, and what tells two things of one name apart.

Rows of one detector with one choice of options need not be of one model or of the same images: a file may have
changed, or another folder may hold one of that name. Their hashes tell.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from oodkit.bench.cell import OVERALL, Cell
from oodkit.bench.leave_out import LEAVE_OUT
from oodkit.bench.names import is_plain, made_from
from oodkit.bench.rows import fingerprint
from oodkit.registry import registry

__all__ = ["Found", "Line", "as_text", "lines_of"]

SHORT = 8  # digits of a hash that tell two things apart


class Found(NamedTuple):
    """A row, and the number of the folder that it was found in."""

    folder: int
    cell: Cell


class _Thing(NamedTuple):
    """A model, or images, that a row is of."""

    name: str
    draw: tuple[int, ...]  # things of one draw must have one hash; of others they may differ
    hash: str
    source: str  # a file; "" where it does not matter


@dataclass
class _Known:
    """What the rows of a line say of a thing."""

    source: str
    hashes: dict[tuple[int, ...], str] = field(default_factory=dict)

    def agrees(self, other: "_Known") -> bool:
        shared = [draw for draw, of in self.hashes.items() if of and other.hashes.get(draw)]
        if shared:
            return all(self.hashes[draw] == other.hashes[draw] for draw in shared)
        return self.source == other.source


@dataclass
class Line:
    """Rows that differ in OOD set and in seed only."""

    options: dict[str, Any]  # the detector's, the model's as "vae.width", what else tells it from others; Any: JSON
    rows: list[Found] = field(default_factory=list)
    known: dict[str, _Known] = field(default_factory=dict)

    def takes(self, cell: Cell) -> bool:
        """Return whether a row is of the same model and the same images as those in the line."""
        known = ((self.known.get(thing.name), _known(thing)) for thing in _things(cell))
        return all(ours is None or ours.agrees(theirs) for ours, theirs in known)

    def add(self, found: Found) -> None:
        """Take a row."""
        self.rows.append(found)
        for thing in _things(found.cell):
            self.known.setdefault(thing.name, _Known(thing.source)).hashes.setdefault(thing.draw, thing.hash)

    @property
    def cells(self) -> list[Cell]:
        """One row for each OOD set and seed: of what was measured again, that on more images, or else the later.

        A mix of other sets than the line's is no part of it.
        """
        kept: dict[tuple[str, int], Found] = {}
        sets = {found.cell.ood for found in self.rows if found.cell.ood != OVERALL and is_plain(found.cell.ood)}
        for found in self.rows:
            mix = found.cell.sets["ood"]
            if isinstance(mix, list) and set(mix) != sets:
                continue
            place = found.cell.ood, found.cell.seed
            if place not in kept or _replaces(found, kept[place]):
                kept[place] = found
        return [found.cell for found in kept.values()]


def lines_of(rows: Iterable[Found]) -> list[Line]:
    """Return the lines of rows, which come in the order of their folders and, in each, as they stand there."""
    alike: dict[tuple[str, ...], list[Found]] = {}
    for found in rows:
        cell = found.cell
        alike.setdefault((cell.id, cell.model, cell.detector, as_text(_options(cell))), []).append(found)
    return [line for group in alike.values() for line in _split(group)]


def as_text(options: dict[str, Any]) -> str:  # Any: what JSON can hold
    """Return options as a text, equal for equal options."""
    return json.dumps(options, sort_keys=True)


def _options(cell: Cell) -> dict[str, Any]:  # Any: what JSON can hold
    of_model = {f"{cell.model}.{name}": value for name, value in cell.model_options.items()}
    of_detector = {name: value for name, value in cell.options.items() if name != "seed"}
    return {**of_model, **of_detector, "training images": cell.sets["train"]["count"]}


def _split(group: list[Found]) -> list[Line]:
    """Return the lines of rows that have their names and options in common."""
    lines: list[Line] = []
    for found in group:
        if found.cell.ood != OVERALL:
            fitting = next((line for line in lines if line.takes(found.cell)), None)
            if fitting is None:
                fitting = Line(_options(found.cell))
                lines.append(fitting)
            fitting.add(found)
    for line in lines:
        _take_shared(line, lines)
    for found in group:
        if found.cell.ood == OVERALL:
            possible = [line for line in lines if line.takes(found.cell)]
            if len(possible) > 1:
                possible = [line for line in possible if _is_mix_of(found.cell, line)] or possible
            for line in possible[-1:]:
                line.add(found)
    for line in lines:
        line.options |= _what_differs(line, lines)
    return lines


def _take_shared(line: Line, lines: list[Line]) -> None:
    """Give a line whose model is one for all seeds the rows that a line with a model per seed has of that model."""
    if line.known["model"].source:
        return
    models = set(line.known["model"].hashes.values()) - {""}
    others = [found for other in lines if other is not line for found in other.rows]
    for found in others:
        if found.cell.hashes.get("model") in models and line.takes(found.cell):
            line.add(found)


def _things(cell: Cell) -> list[_Thing]:
    hashes, seed, sets = cell.hashes, cell.seed, cell.sets
    model = () if cell.model_file else (seed,)  # one that is trained in the run is another for each seed
    things = [
        _Thing("model", model, hashes.get("model", ""), cell.model_file),
        _Thing("images of training", (seed,), hashes.get("train", ""), _source(cell, cell.id, sets["train"]["source"])),
        _Thing("ID test images", (seed, cell.n_id), hashes.get("id", ""), _source(cell, cell.id, sets["id"]["source"])),
    ]
    if not isinstance(ood := sets["ood"], list):
        draw = seed, cell.n_ood
        things.append(_Thing(cell.ood, draw, hashes.get("ood", ""), _source(cell, cell.ood, ood["source"])))
    return things


def _source(cell: Cell, name: str, source: str) -> str:
    base = cell.id if name.startswith(LEAVE_OUT) else made_from(name)
    return "" if base in registry().datasets else source  # a named set is the same wherever it lies


def _known(thing: _Thing) -> _Known:
    return _Known(thing.source, {thing.draw: thing.hash})


def _is_mix_of(cell: Cell, line: Line) -> bool:
    """Return whether a mix is of this line's images: its key is made of their hashes."""
    ood = {one.ood: one.hashes.get("ood", "") for one in line.cells if one.seed == cell.seed}
    mix = {name: ood.get(name, "") for name in cell.sets["ood"]}
    of = {"detector": cell.hashes.get("detector", ""), "id": {cell.id: cell.hashes.get("id", "")}}
    return cell.key == fingerprint(**of, ood=mix, overall=True, seed=cell.seed)


def _replaces(new: Found, old: Found) -> bool:
    if new.cell.n_id != old.cell.n_id:
        return new.cell.n_id > old.cell.n_id
    return new.folder == old.folder or new.cell.date >= old.cell.date  # a clock may be wrong, an order is not


def _what_differs(line: Line, lines: list[Line]) -> dict[str, str]:
    """Return what tells a line from others of its names and options: the files, or else hashes."""
    named = {}
    for name, ours in line.known.items():
        known = [other.known[name] for other in lines if name in other.known]
        if all(one.agrees(other) for one in known for other in known):
            continue
        sources = [one.source for one in known]
        if len(set(sources)) == len(sources):
            files = [Path(source).name for source in sources]
            named[name] = (Path(ours.source).name if len(set(files)) == len(files) else ours.source) or "of the run"
        else:
            hashes = list(dict.fromkeys(ours.hashes.values()))
            named[name] = hashes[0][:SHORT] + ("…" if len(hashes) > 1 else "")
    return named
