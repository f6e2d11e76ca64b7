"""Fixtures that several test files use."""

import importlib
import os
import sys

import pytest
from hypothesis import HealthCheck, settings

from oodkit.registry import detector_options, registry

# As the commands do, before torch is imported: on a busy machine its threads would wait for each other for long.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# How long an example takes says how busy the machine is, and no more.
settings.register_profile("oodkit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("oodkit")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a third-party plugin from its source text, for the length of a test.

    The distribution is a real one: a folder on `sys.path` with a package, its metadata and its entry point.
    """
    installed = []

    def add(distribution: str, source: str, **modules: str) -> None:
        module = distribution.replace("-", "_")
        folder = tmp_path / distribution
        package, info = folder / module, folder / f"{module}-1.2.dist-info"
        package.mkdir(parents=True)
        info.mkdir()
        (package / "__init__.py").write_text("")
        for name, text in {"plugin": source, **modules}.items():
            (package / f"{name}.py").write_text(text)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[oodkit]\n{module} = {module}.plugin\n")
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        installed.append(module)
        _forget()

    yield add
    monkeypatch.undo()
    for name in [n for n in sys.modules if n.partition(".")[0] in installed]:
        del sys.modules[name]
    _forget()


def _forget() -> None:
    registry.cache_clear()
    detector_options.cache_clear()
