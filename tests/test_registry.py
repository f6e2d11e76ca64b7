"""What the registry makes of the installed packages, good and broken."""

import subprocess
import sys

import pytest

import oodkit
from oodkit.registry import detector_options, registry

VALUES = ("hookimpl", "INTERFACE_VERSION")  # public names that are no class or function: they have no __module__

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
        ("from oodkit import hookimpl\n@hookimpl\ndef oodkit_models():\n    return None or 3", "list of ModelSpec"),
        ("OODKIT_INTERFACE = '1.7'", "needs plugin interface 1.7, this oodkit has 1.0; upgrade oodkit"),
        ("OODKIT_INTERFACE = '0.9'", "made for plugin interface 0.9, this oodkit has 1.0; upgrade it"),
        ("OODKIT_INTERFACE = 1", "OODKIT_INTERFACE is 1; write two numbers"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
    ],
)
def test_a_broken_package_is_one_line_and_stops_nothing(install, source, said):
    install("oodkit-broken", source)
    (problem,) = registry().problems
    assert "oodkit-broken 1.2" in problem and said in problem and "\n" not in problem
    assert "rose-ekfac" in registry().detectors


def test_a_package_of_our_interface_is_taken(install):
    install("oodkit-foo", f"OODKIT_INTERFACE = {oodkit.INTERFACE_VERSION!r}\n" + CURVATURE.format(name="foo"))
    assert registry().problems == [] and "foo" in registry().curvatures


def test_a_package_with_one_bad_hook_is_left_out_whole(install):
    install("oodkit-half", CURVATURE.format(name="half") + "\n@hookimpl\ndef oodkit_models():\n    return 'none'")
    assert len(registry().problems) == 1 and "half" not in registry().curvatures


def test_a_method_that_would_hide_the_state_of_a_detector_is_refused():
    with pytest.raises(oodkit.PluginError, match=r"Mine defines '_fitted'.*rename it"):

        class Mine(oodkit.Detector):
            def _fitted(self):
                return True


def test_an_option_that_create_detector_takes_itself_is_refused(install):
    install(
        "oodkit-shadow",
        "from oodkit import DetectorSpec, hookimpl\n@hookimpl\ndef oodkit_detectors():\n    return [DetectorSpec("
        "name='shadow', target='oodkit_shadow.options:None', options='oodkit_shadow.options:Mine', summary='')]",
        options="from oodkit import DetectorOptions\nclass Mine(DetectorOptions):\n    batch_size: int = 3",
    )
    with pytest.raises(oodkit.PluginError, match="'batch_size', which is an argument of create_detector; rename it"):
        oodkit.create_detector("shadow")


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
    lazy = {name: getattr(oodkit, name).__module__ for name in oodkit.__all__ if name not in ("__version__", *VALUES)}
    del static["import_module"], static["TYPE_CHECKING"]
    for name in VALUES:
        assert static.pop(name) == "oodkit.plugin"
    assert static == lazy


def test_importing_oodkit_does_not_import_torch():
    code = "import sys, oodkit, oodkit.registry as r; r.registry(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
