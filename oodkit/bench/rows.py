"""The rows of results.jsonl: a `Cell` as a line of JSON, and back. What is no whole `Cell` is damaged."""

import hashlib
import json
from dataclasses import asdict
from typing import Any, NoReturn

from pydantic import TypeAdapter

from oodkit.bench.cell import OVERALL, Cell

__all__ = ["as_row", "fingerprint", "read_cells"]

CELL = TypeAdapter(Cell)
DIGITS = 300  # of a whole number, at most: a longer one is no float


def fingerprint(**parts: Any) -> str:  # Any: what JSON can hold
    """Return a hash of `parts`, 32 hexadecimal digits; equal for equal parts, whatever their order."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def as_row(cell: Cell) -> bytes:
    """Return a line of results.jsonl; its `check` tells whether a figure in it has changed since."""
    fields = asdict(cell)
    return f"{json.dumps({**fields, 'check': fingerprint(**fields)}, allow_nan=False)}\n".encode()


def read_cells(rows: bytes) -> tuple[list[Cell], list[bytes]]:
    """Return the cells of results.jsonl, and the rows that are damaged or of another oodkit."""
    cells, damaged = [], []
    for line in rows.splitlines():
        try:
            cells.append(_read(line))
        except (ValueError, TypeError, AttributeError, RecursionError):
            damaged.append(line)
    return cells, damaged


def _read(line: bytes) -> Cell:
    """Return the cell of one row.

    Raises:
        ValueError: a figure has changed since it was written, or a value is none that a cell can have.
        TypeError: a field too many or too few.
        AttributeError: the row is no JSON object.
        RecursionError: it is nested too deeply.
    """
    row = json.loads(line, parse_int=_whole_number, parse_constant=_refuse)
    check = row.pop("check", None)  # rows of an older oodkit have none
    if check not in (None, fingerprint(**row)):
        raise ValueError("a figure has changed")
    # As JSON: strict, it takes no dictionary for a Cell. Names of files may hold bytes that are no text: "?" here.
    CELL.validate_json(json.dumps(row, ensure_ascii=False).encode(errors="replace"))
    cell = Cell(**row)
    if isinstance(cell.sets["ood"], list) != (cell.ood == OVERALL):
        raise ValueError("only a mix names several OOD sets")
    return cell


def _whole_number(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
