"""Code that changes makes cells anew, although no version was raised."""

import importlib
import shutil
import sys
from pathlib import Path

import pytest

from oodkit import train_model
from oodkit.bench.plan import make_plan
from oodkit.bench.runner import run_bench
from oodkit.bench.spec import read_spec
from oodkit.imports import own_files
from oodkit.loading import load_images
from oodkit.registry import registry

pytest_plugins = ["bench_fixtures"]

STUBS = Path(__file__).parent / "stubs"


@pytest.fixture
def plugin(sets, monkeypatch):
    """A function that installs the stub package, with a file of the package changed where it is told so."""
    folder = sets / "installed"
    shutil.copytree(STUBS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget():
        registry.cache_clear()
        importlib.invalidate_caches()
        for name in [name for name in sys.modules if name.partition(".")[0] == "oodkit_stub"]:
            del sys.modules[name]

    def install(name=None, add=""):
        if name is not None:
            with (folder / "oodkit_stub" / name).open("a") as file:
                file.write(add)
        forget()

    install()
    yield install
    forget()


def reused(**fields):
    return run_bench(
        read_spec(**{"id": "id.npz", "ood": "bright.npz", "limit": 5, "train_limit": 20, "baseline": False, **fields})
    ).reused


def test_a_plugin_that_was_changed_is_run_anew(plugin):
    assert [reused(detectors="brightness"), reused(detectors="brightness")] == [0, 1]
    plugin("helper.py", "1\n")
    assert [reused(detectors="brightness"), reused(detectors="brightness")] == [0, 1]


def test_a_model_whose_plugin_was_changed_is_trained_anew(plugin):
    fields = {"detectors": "elbo", "model": "flat", "epochs": 1}
    assert [reused(**fields), reused(**fields)] == [0, 1]
    plugin("model.py", "\n")
    assert reused(**fields) == 0


def test_a_model_file_is_looked_through_with_the_code_that_is_here(plugin, sets):
    train_model("flat", load_images("id.npz", image_shape=(1, 32, 32)), epochs=0).save(sets / "flat.oodkit")
    fields = {"detectors": "elbo", "model": "flat.oodkit"}
    assert [reused(**fields), reused(**fields)] == [0, 1]
    plugin("model.py", "\n")
    assert reused(**fields) == 0


def test_rows_of_built_ins_know_them_by_their_version():
    planned = make_plan(read_spec(detectors="rose-ekfac"))
    assert planned.detectors[0].identity == planned.model_identity == planned.model.origin


MINE = """
from torch import nn
import oodkit
from parts.flat import Flat

def make():
    return oodkit.adapt(Flat(), image_shape=(1, 32, 32), log_prob="log_prob")
"""
FLAT = """
import torch
from . import shades

class Flat(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1024, 1)

    def log_prob(self, x):
        return self.layer(x.flatten(1))[:, 0] * shades.SCALE
"""


def test_a_model_of_your_own_has_the_files_that_it_imports_in_its_hash(sets):
    (sets / "parts").mkdir()
    for name, text in (("mine.py", MINE), ("parts/flat.py", FLAT), ("parts/shades.py", "SCALE = 2\n")):
        (sets / name).write_text(text)
    fields = {"detectors": "nll", "model": "mine.py:make"}
    try:
        assert [reused(**fields), reused(**fields)] == [0, 1]
        (sets / "unrelated.py").write_text("")
        assert reused(**fields) == 1
        (sets / "parts" / "shades.py").write_text("SCALE = 3\n")
        assert reused(**fields) == 0
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "parts"]:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import a", ["a.py"]),
        ("import pack", ["pack/__init__.py"]),
        ("import pack.b as b", ["pack/__init__.py", "pack/b.py"]),
        ("from pack import b, nothing", ["pack/__init__.py", "pack/b.py"]),
        ("def f():\n    from pack.b import x", ["pack/__init__.py", "pack/b.py"]),
        ("import torch, os.path", []),
        ("import loop", ["loop.py"]),
        ("this is no Python", []),
    ],
)
def test_imports_that_are_found(tmp_path, text, found):
    (tmp_path / "pack").mkdir()
    for name in ("a.py", "pack/__init__.py", "pack/b.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "loop.py").write_text("import loop, mine")
    (tmp_path / "mine.py").write_text(text)
    assert own_files(tmp_path / "mine.py") == [tmp_path / name for name in ("mine.py", *found)]
