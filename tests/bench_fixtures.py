"""Fixtures for the benchmark and the command line: a third party's package, and tiny sets of images."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from oodkit.registry import registry

STUBS = Path(__file__).parent / "stubs"


@pytest.fixture
def stub(monkeypatch):
    """The stub package as if it were installed; the module of its detectors, with CALLS and STOP_AT empty."""
    monkeypatch.syspath_prepend(str(STUBS))
    importlib.invalidate_caches()
    registry.cache_clear()
    detectors = importlib.import_module("oodkit_stub.detectors")
    detectors.CALLS.clear()
    detectors.STOP_AT.clear()
    yield detectors
    registry.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "oodkit_stub"]:
        del sys.modules[name]


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """A folder, made the current one, with id.npz (grey of all kinds), bright.npz, mixed.npz and white.npz."""
    rng = np.random.default_rng(0)
    for name, low, high, count in (("id", 60, 200, 60), ("bright", 150, 256, 12), ("mixed", 0, 256, 12)):
        levels = rng.integers(low, high, size=(count, 1, 1))
        images = np.clip(levels + rng.integers(-20, 20, size=(count, 32, 32)), 0, 255).astype(np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images)
    np.savez(tmp_path / "white.npz", images=np.full((3, 32, 32), 255, dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path
