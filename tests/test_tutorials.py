"""The tutorials, run from the first line to the last: every file written, command given and program run as it stands.

```python title="FILE"` writes FILE, ```python runs, and each line `$ oodkit …` of a console block is a command. Output
that a block shows must be printed. `$ pip install -e FOLDER` puts the package and its metadata on the path.
"""

import importlib
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from oodkit.cli import main
from oodkit.registry import detector_options, registry

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r'^```(python|console)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)

# What makes a command take seconds: the paper's VAE has another width, and nobody reads the figures here.
QUICK = ["--limit", "60", "--train-limit", "200", "--set", "vae.width=4", "--set", "vae.latent=8"]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty current folder, from which modules are imported; what a tutorial installs and imports is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    _forget()


def _forget():
    importlib.invalidate_caches()
    registry.cache_clear()
    detector_options.cache_clear()


def install(folder, monkeypatch):
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]["oodkit"]
    (info / "entry_points.txt").write_text(
        "[oodkit]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
    )
    monkeypatch.syspath_prepend(str(folder))


def command(line, folder, monkeypatch):
    """Run one line of a console block and check its exit code."""
    words = shlex.split(line.partition("#")[0])
    expected = int(found[1]) if (found := re.search(r"# exit (\d)", line)) else 0
    if words[:3] == ["pip", "install", "-e"]:
        install(folder / words[3], monkeypatch)
    else:
        assert words[0] == "oodkit", line
        quick = words[1] == "bench" and not {"--train-limit", "--limit"} & set(words)
        limits = QUICK[:4] if "mine.py:make" in words else QUICK
        assert main(words[1:] + (limits if quick else [])) == expected, line
    _forget()


@pytest.mark.parametrize("page", sorted(path.name for path in (DOCS / "tutorials").glob("*.md")))
def test_tutorial(page, elsewhere, monkeypatch, capsys):
    names = {"__name__": "tutorial"}
    blocks = BLOCK.findall((DOCS / "tutorials" / page).read_text())
    assert blocks
    for language, title, text in blocks:
        if title:
            (elsewhere / title).write_text(text)
            for name in [n for n, m in sys.modules.items() if str(elsewhere) in str(getattr(m, "__file__", ""))]:
                del sys.modules[name]  # as a new process would, it sees the new text
            _forget()
        elif language == "python":
            exec(text, names)
        else:
            capsys.readouterr()
            for line in text.splitlines():
                if line.startswith("$ "):
                    command(line[2:], elsewhere, monkeypatch)
            said = capsys.readouterr()
            for line in text.splitlines():
                if line and not line.startswith("$ "):
                    assert line in said.out + said.err
