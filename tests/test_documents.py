"""Snippets of the documents run as they stand."""

import re
from pathlib import Path

import pytest

import oodkit
from oodkit.testing import detector_checks

ROOT = Path(__file__).resolve().parents[1]


def snippets(file: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / file).read_text(), re.MULTILINE | re.DOTALL)


def test_the_program_of_the_readme(tmp_path, monkeypatch):
    (program,) = snippets("README.md")
    monkeypatch.chdir(tmp_path)
    small = program.replace("epochs=8", "epochs=1, width=4, latent=8")  # seconds, not half a minute
    assert small != program
    names: dict[str, object] = {}
    exec(small, names)
    assert names["scores"].shape == (100,)
    assert (tmp_path / "rose.oodkit").exists()


def test_the_program_of_the_page_on_p_values():
    (program,) = snippets("docs/p-values.md")
    exec(program, names := {})
    assert names["detector"].predict(names["new"]).all()


def test_the_detector_of_the_plugin_page_conforms(install):
    plugin, detector, _ = snippets("docs/plugins.md")
    install("oodkit-typical", plugin, detector=detector)
    checks = {check.__name__: check for check in detector_checks("typical")}
    # |log p − E log p| of a small model need not rank noise above blobs: all but the sign
    for name in checks.keys() - {"check_higher_is_more_ood"}:
        checks[name]()


@pytest.mark.parametrize(
    "file", sorted(p.relative_to(ROOT).as_posix() for p in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
)
def test_links_between_documents_lead_somewhere(file):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / file).read_text()):
        assert (ROOT / file).parent.joinpath(target).exists(), f"{file} links to {target}, which is not there."


@pytest.mark.parametrize(
    "file", sorted(p.relative_to(ROOT).as_posix() for p in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
)
def test_public_names_in_documents_exist(file):
    for name in set(re.findall(r"\boodkit\.([a-zA-Z]\w*)\b", (ROOT / file).read_text())):
        submodule = (ROOT / "oodkit" / name).exists() or (ROOT / "oodkit" / f"{name}.py").exists()
        assert submodule or hasattr(oodkit, name), f"{file} names oodkit.{name}, which does not exist."


def test_every_page_is_in_the_navigation_of_the_site():
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in ROOT.glob("docs/**/*.md")}
    assert set(re.findall(r"(\S+\.md)", navigation)) == pages  # `make docs` would say so too, and stop
