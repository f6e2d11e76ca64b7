"""What a hash has of the package that brings a detector, a model or a curvature: its version, and its code.

Whoever writes a plugin changes its code many times between two versions.
"""

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from oodkit.plugin import CurvatureSpec, DetectorSpec, ModelSpec
from oodkit.registry import Registered

__all__ = ["is_own", "package_identity"]

OWN = "oodkit"  # the distribution of the built-ins, whose rows must outlive a mended docstring

Entry = Registered[DetectorSpec] | Registered[ModelSpec] | Registered[CurvatureSpec]


def is_own(entry: Entry) -> bool:
    """Return whether it comes with oodkit itself."""
    return entry.distribution == OWN


def package_identity(entry: Entry) -> str:
    """Return the distribution with its version and, but for the built-ins, a hash of its Python files."""
    if is_own(entry):
        return entry.origin
    modules = (entry.module, entry.spec.target, entry.spec.options)
    packages = {module.partition(":")[0].partition(".")[0] for module in modules} - {"", OWN}
    digest = hashlib.sha256()
    for package in sorted(packages):
        for name, file in _files(package):
            digest.update(f"{name}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return f"{entry.origin} {digest.hexdigest()}"


def _files(package: str) -> Iterator[tuple[str, Path]]:
    """Yield the Python files of a package, or of a module, with their names inside."""
    found = find_spec(package)
    if found is None:  # it is broken, and each of its cells will say so
        return
    for folder in map(Path, found.submodule_search_locations or ()):
        yield from ((file.relative_to(folder).as_posix(), file) for file in sorted(folder.rglob("*.py")))
    if found.submodule_search_locations is None and found.origin is not None and Path(found.origin).is_file():
        yield package, Path(found.origin)
