"""What is read off a plugin's source: imports, options that no line reads, pickle."""

import ast
import inspect
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from oodkit.options import Options
from oodkit.testing.pickling import pickling

__all__ = ["assert_documented", "assert_lazy", "assert_no_pickle", "assert_options_are_read"]


def assert_documented(options: type[Options]) -> None:
    """Fail unless each option has a description."""
    silent = [name for name, field in options.model_fields.items() if not field.description]
    assert not silent, f"options without a description: {', '.join(silent)}."


def assert_options_are_read(options: type[Options]) -> None:
    """Fail if a package declares an option that no line of it reads: `options.name` or the text "name"."""
    ours = {n for k in options.__mro__ if k.__module__.startswith("oodkit.") for n in getattr(k, "model_fields", ())}
    for kind in options.__mro__:
        package = kind.__module__.partition(".")[0]
        if package == "oodkit" or not (isinstance(kind, type) and issubclass(kind, Options)):
            continue  # what the core declares, the core reads
        own = [name for name in inspect.get_annotations(kind) if name in kind.model_fields]
        nodes = [node for _, tree in _sources(package) for node in ast.walk(tree)]
        read = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        read |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        unread = [name for name in own if name not in read | ours]
        assert not unread, f"options that no line of {package} reads: {', '.join(unread)}."


def assert_no_pickle(target: str) -> None:
    """Fail if the package of `target` imports a pickling module, or lets torch, NumPy or pandas unpickle or pickle.

    Raises:
        AssertionError: names the file and the line.
    """
    for path, tree in _sources(target.partition(":")[0].partition(".")[0]):
        for line, found in pickling(tree):
            raise AssertionError(
                f"{path.name}, line {line}: {found}; a file that is unpickled can run code. "
                "Return tensors from _fit: they are saved for you."
            )


def assert_lazy(module: str) -> None:
    """Fail if importing a plugin's hooks, in a fresh process, imports torch."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules and 'it imports torch')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)
    said = done.stderr.strip().splitlines() or ["it failed"]
    assert done.returncode == 0, f"importing {module} in a fresh process: {said[-1]}"


def _sources(package: str) -> list[tuple[Path, ast.Module]]:
    found = find_spec(package)
    if found is None:
        return []
    folders = [Path(place) for place in found.submodule_search_locations or ()]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    if not folders and found.origin is not None and found.origin.endswith(".py"):
        files = [Path(found.origin)]
    return [(file, ast.parse(file.read_bytes())) for file in files]
