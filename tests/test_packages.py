"""Third-party packages, really installed: pip, a wheel made of oodkit's sdist, a fresh environment, another folder.

The environment has its own interpreter and packages; torch and the like are seen through a path file, so that nothing
is downloaded. oodkit's own source is not on its path.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import oodkit
from oodkit.cli import main
from oodkit.scaffold import KINDS, write_package

ROOT = Path(__file__).resolve().parents[1]
HANGS = 600  # seconds after which a program has hung, on any machine


class Fresh:
    """A fresh environment with oodkit's wheel."""

    def __init__(self, folder):
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True, timeout=HANGS)
        self.python = folder / "env" / "bin" / "python"
        site = next((folder / "env" / "lib").glob("python*")) / "site-packages"
        (site / "beside.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", folder / "sdist"],
            check=True,
            cwd=ROOT,
            capture_output=True,
        )
        (sdist,) = (folder / "sdist").glob("oodkit-*.tar.gz")
        self.wheel = self.build(sdist, folder / "wheels")
        self.install(self.wheel)

    def build(self, source, folder):
        self.pip("wheel", source, "--wheel-dir", folder, "--no-deps", "--no-build-isolation", "--no-index")
        (wheel,) = folder.glob("oodkit-*.whl")
        return wheel

    def pip(self, *arguments):
        command = [sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", "--quiet"]
        subprocess.run([*command, *arguments], check=True, cwd=self.folder, env=self.environment(), timeout=HANGS)

    def install(self, what):
        self.pip("install", what, "--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed")

    def run(self, *arguments):
        done = subprocess.run(
            [self.python, *arguments],
            check=False,
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=HANGS,
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout

    def listing(self):
        document = json.loads(self.run("-m", "oodkit", "list", "--json"))
        rows = [row for kind in ("detectors", "models", "data_sets", "curvatures") for row in document[kind]]
        return {row["name"]: row["package"] for row in rows}, document["problems"]

    @staticmethod
    def environment():
        return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    return Fresh(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="module")
def packages(fresh):
    """A new package of each kind and the example, installed; name of what each adds -> its folder."""
    folders = {f"my-{kind}": write_package(kind, f"my-{kind}", fresh.folder) for kind in KINDS}
    example = fresh.folder / "oodkit-kfac"
    shutil.copytree(ROOT / "examples" / "oodkit-kfac", example)
    for folder in (*folders.values(), example):
        fresh.install(folder)
    return {**folders, "kfac": example}


def test_oodkit_is_the_wheel_and_not_this_tree(fresh):
    where = fresh.run("-c", "import oodkit; print(oodkit.__file__)")
    assert str(fresh.folder) in where


def test_the_sdist_makes_the_wheel_that_the_tree_makes(fresh):
    of_the_tree = fresh.build(ROOT, fresh.folder / "direct")
    one, other = (set(zipfile.ZipFile(wheel).namelist()) for wheel in (fresh.wheel, of_the_tree))
    assert one == other
    assert {"oodkit/py.typed", "oodkit/bench/report/page.html", "oodkit_rose/plugin.py"} <= one


def test_what_is_installed_is_listed_with_its_distribution(fresh, packages):
    names, problems = fresh.listing()
    assert problems == []
    assert (
        names.items()
        >= {
            "kfac": "oodkit-kfac 0.3.0",
            "rose-kfac": f"oodkit {oodkit.__version__}",
            "reconstruction-error": "oodkit-kfac 0.3.0",
            "my-detector": "oodkit-my-detector 0.1.0",
            "rose-my-curvature": f"oodkit {oodkit.__version__}",
        }.items()
    )


def test_each_passes_its_own_tests_at_once(fresh, packages):
    said = fresh.run("-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", *packages.values())
    assert " passed" in said and "failed" not in said


def test_a_benchmark_runs_what_they_bring(fresh, packages):
    said = fresh.run(
        "-m", "oodkit", "bench", "--no-baseline",
        "--detector", "rose-kfac,reconstruction-error,my-detector", "--model", "vae",
        "--id", "digits", "--ood", "my-dataset,noise", "--epochs", "1", "--train-limit", "80", "--limit", "20",
        "--set", "vae.width=4", "--set", "vae.latent=4", "--json",
    )  # fmt: skip
    cells = json.loads(said)["cells"]
    assert {cell["detector"] for cell in cells} == {"rose-kfac", "reconstruction-error", "my-detector"}
    assert {cell["ood"] for cell in cells} >= {"my-dataset", "noise"}


def test_a_broken_package_beside_them_is_one_line(fresh, packages):
    folder = write_package("detector", "broken", fresh.folder)
    (folder / "oodkit_broken" / "plugin.py").write_text("import a_module_that_is_nowhere\n")
    fresh.install(folder)
    names, problems = fresh.listing()
    fresh.pip("uninstall", "--yes", "oodkit-broken")
    assert "kfac" in names and len(problems) == 1
    assert "oodkit-broken 0.1.0" in problems[0] and "a_module_that_is_nowhere" in problems[0]


def test_uninstalled_it_is_gone(fresh, packages):
    fresh.pip("uninstall", "--yes", "oodkit-kfac")
    names, problems = fresh.listing()
    assert problems == [] and names.keys().isdisjoint({"kfac", "rose-kfac", "reconstruction-error"})
    assert "rose-ekfac" in names


# --- what `oodkit new` refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("detector", "Bad Name", "cannot be a name"),
        ("detector", "../up", "cannot be a name"),
        ("detector", "vae", "is registered by oodkit"),
        ("curvature", "svd-rnd", "is registered by oodkit"),
        ("detector", "there", "is there already"),
        ("metric", "mine", "there is no kind 'metric'"),
    ],
)
def test_new_refuses_in_one_sentence(tmp_path, kind, name, said):
    (tmp_path / "oodkit-there").mkdir()
    with pytest.raises(oodkit.OptionError, match=said):
        write_package(kind, name, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["oodkit-there"]


def test_new_leaves_nothing_half_written(tmp_path):
    with pytest.raises(oodkit.OptionError, match="cannot write"):
        write_package("model", "mine", tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_new_on_the_command_line_names_its_files(tmp_path, capsys):
    assert main(["new", "detector", "mine", "--folder", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert {Path(line).name for line in out.split()} >= {"pyproject.toml", "plugin.py", "options.py", "README.md"}
    assert "oodkit check mine" in err


# --- `oodkit check` -----------------------------------------------------------------------------------------


def test_check_passes_and_says_what_each_check_promises(capsys):
    assert main(["check", "noise", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["data set"]
    assert {row["outcome"] for row in rows} == {"passed"} and all(row["promise"] for row in rows)


def test_check_fails_with_the_reason(install, capsys):
    install(
        "oodkit-shy",
        "from oodkit import DatasetSpec, hookimpl\n@hookimpl\ndef oodkit_datasets():\n"
        "    return [DatasetSpec(name='shy', target='oodkit_shy.data:load', summary='')]",
        data="import torch\nfrom oodkit import ImageSet\ndef load(request):\n"
        "    return ImageSet('shy', request.split, torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8), source='x')",
    )
    assert main(["check", "shy"]) == 1
    out = capsys.readouterr().out
    assert "loading twice gives two sets" in out and "global random state of torch was touched" in out
    assert "4 passed, 2 failed" in out


def test_check_knows_options_and_names():
    with pytest.raises(oodkit.OptionError, match="has no option 'epoch'"):
        from oodkit.cli.check_command import _kits

        _kits("rnd-svd", ["epoch=1"])
    assert main(["check", "rose-ekfak"]) == 2
    assert main(["check", "noise", "--set", "x=1"]) == 2
