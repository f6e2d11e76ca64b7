"""What the registry makes of the installed packages, good and broken."""

import subprocess
import sys

import pytest

import oodkit
from oodkit.registry import detector_options, registry

CURVATURE = """
from oodkit import CurvatureSpec, hookimpl

@hookimpl
def oodkit_curvatures():
    return [CurvatureSpec(name="{name}", target="oodkit_rose.diag:Diag", summary="for a test")]
"""


def test_a_registered_curvature_makes_a_rose(install):
    install("oodkit-foo", CURVATURE.format(name="foo"))
    entry = registry().detector("rose-foo")
    assert entry.curvature.name == "foo"
    assert {"damping", "aggregation", "seed"} <= detector_options(entry).model_fields.keys()


def test_uninstalled_it_is_gone(install):
    with pytest.raises(oodkit.UnknownNameError, match="rose-foo"):
        registry().detector("rose-foo")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise RuntimeError('no such library')", "no such library"),
        ("import not_installed_anywhere", "not_installed_anywhere"),
        ("def (", "SyntaxError"),
        (
            "from oodkit import hookimpl\n@hookimpl\ndef oodkit_detectors():\n    return ['text']",
            "must return a list of DetectorSpec",
        ),
        ("from oodkit import hookimpl\n@hookimpl\ndef oodkit_detektors():\n    return []", "oodkit_detektors"),
    ],
)
def test_a_broken_package_is_one_line_and_stops_nothing(install, source, said):
    install("oodkit-broken", source)
    (problem,) = registry().problems
    assert "oodkit-broken 1.2" in problem and said in problem
    assert "rose-ekfac" in registry().detectors


def test_a_clash_of_names_keeps_the_first_and_names_both(install):
    install("zzz-late", CURVATURE.format(name="ekfac"))
    (problem,) = registry().problems
    assert "zzz-late 1.2" in problem and "oodkit 0.1.0" in problem and "'ekfac'" in problem
    assert registry().curvature("ekfac").distribution == "oodkit"


def test_a_target_that_is_missing_is_one_sentence(install):
    install(
        "oodkit-typo",
        "from oodkit import DetectorSpec, hookimpl\n@hookimpl\ndef oodkit_detectors():\n"
        "    return [DetectorSpec(name='typo', target='oodkit_likelihood.detectors:Nlll', summary='', model='none')]",
    )
    with pytest.raises(oodkit.PluginError, match="Nlll"):
        oodkit.create_detector("typo")


@pytest.mark.parametrize(("name", "near"), [("rose-ekfak", "rose-ekfac"), ("rose_diag", "rose-diag"), ("nl", "nll")])
def test_unknown_names_come_with_near_misses(name, near):
    with pytest.raises(oodkit.UnknownNameError, match=near):
        oodkit.create_detector(name)


def test_an_unknown_option_comes_with_near_misses():
    model = oodkit.create_model("vae", (1, 32, 32), width=2, latent=2)
    with pytest.raises(oodkit.OptionError, match="did you mean damping"):
        oodkit.create_detector("rose-ekfac", model, dampin=1)
    with pytest.raises(oodkit.OptionError, match=r"rose-ekfac.damping = -1.*greater than or equal to 0"):
        oodkit.create_detector("rose-ekfac", model, damping=-1)


def test_static_names_are_the_lazy_ones():
    """What editors see (TYPE_CHECKING) and what `__getattr__` resolves are one list."""
    import ast
    import inspect

    tree = ast.parse(inspect.getsource(oodkit))
    static = {alias.name: f.module for f in ast.walk(tree) if isinstance(f, ast.ImportFrom) for alias in f.names}
    lazy = {
        name: getattr(oodkit, name).__module__ for name in oodkit.__all__ if name not in ("__version__", "hookimpl")
    }
    del static["import_module"], static["TYPE_CHECKING"], static["hookimpl"]
    assert static == lazy


def test_importing_oodkit_does_not_import_torch():
    code = "import sys, oodkit, oodkit.registry as r; r.registry(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
