"""Which files of its own folder a Python file imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

__all__ = ["own_files"]


def own_files(file: Path) -> list[Path]:
    """Return the file, and those below its folder that it imports by a statement, and those that they import."""
    found: dict[Path, None] = {}
    left = [file]
    while left:
        one = left.pop()
        if one not in found:
            found[one] = None
            left += _imported(one, file.parent)
    return [file, *sorted(found.keys() - {file})]


def _imported(file: Path, root: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # importing it fails, and says why
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(root, alias.name)
        elif isinstance(node, ast.ImportFrom):
            start = file.parents[node.level - 1] if node.level else root
            for alias in node.names:
                yield from _files(start, f"{node.module}.{alias.name}" if node.module else alias.name)


def _files(folder: Path, name: str) -> Iterator[Path]:
    """Yield the files that an import of `a.b` runs: of the packages on the way, and of the module."""
    place = folder
    for part in name.split("."):
        place = place / part
        yield from (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())
