"""`write_package`: a plugin package that installs and passes the conformance kit at once. No torch here."""

import re
import shutil
import tempfile
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from oodkit import __version__
from oodkit.errors import OptionError
from oodkit.plugin import INTERFACE_VERSION
from oodkit.registry import registry

__all__ = ["KINDS", "write_package"]

KINDS = ("detector", "model", "dataset", "curvature")


def write_package(kind: str, name: str, folder: str | Path = ".") -> Path:
    """Write `oodkit-<name>` below `folder`, whole or not at all, and return its path.

    Args:
        kind: "detector", "model", "dataset" or "curvature".
        name: small letters, digits and single dashes, not yet registered.
        folder: exists; the package's own folder must not.

    Raises:
        OptionError: a name that cannot be one, or is taken; a folder that is there already or cannot be written.
    """
    if kind not in KINDS:
        raise OptionError(f"there is no kind {kind!r}; choose {', '.join(KINDS)}.")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise OptionError(f"{name!r} cannot be a name; use small letters, digits and single dashes, such as my-{kind}.")
    if name == "all" or name.startswith("plus-"):
        raise OptionError(f"{name!r} would be read otherwise: `all` as every detector, rose-plus-… as rose-plus.")
    found = registry()
    known = found.aliases.get(name, name)
    for table in (found.detectors, found.models, found.datasets, found.curvatures):
        if known in table:
            raise OptionError(f"{name!r} is registered by {table[known].origin}; choose another name.")
    target = Path(folder) / f"oodkit-{name}"
    if target.exists():
        raise OptionError(f"{target} is there already; choose another name or --folder.")
    words = {
        "name": name,
        "distribution": f"oodkit-{name}",
        "package": f"oodkit_{name.replace('-', '_')}",
        "Class": "".join(part.capitalize() for part in name.split("-")),
        "kind": kind,
        "version": __version__,
        "interface": INTERFACE_VERSION,
    }
    try:
        with tempfile.TemporaryDirectory(dir=Path(folder), prefix=f".oodkit-{name}.") as temporary:
            written = Path(temporary, "package")
            for part in ("common", kind):
                _fill(files("oodkit") / "templates" / part, written, words)
            shutil.move(written, target)
    except OSError as error:
        raise OptionError(f"cannot write {target}: {error.strerror or error}; choose another --folder.") from error
    return target


def _fill(source: Traversable, target: Path, words: dict[str, str]) -> None:
    """Copy a folder of templates; `PACKAGE` in a file's name is the package, `$word` in its text a word."""
    target.mkdir(exist_ok=True)
    for item in source.iterdir():
        into = target / item.name.replace("PACKAGE", words["package"]).removesuffix(".txt")
        if item.is_dir():
            _fill(item, into, words)
        elif item.name.endswith(".txt"):
            into.write_text(Template(item.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
