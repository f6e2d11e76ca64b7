"""What a report compares with the paper: which of its figures, of which settings, and what it says is missing."""

import pytest
from report_rows import cell, rows_of, runs_of

from oodkit.bench.report.compare import gaps
from oodkit.bench.report.markdown import as_markdown
from oodkit.bench.report.paper import Subject, paper_figure, subject_of


def test_figures_are_those_that_the_paper_prints():
    def figure(model, detector, ood, metric="auroc", id="fashion-mnist", setting=""):
        return str(paper_figure(Subject(id, model, detector, setting), ood, metric).value)

    assert figure("vae", "rose-ekfac", "mnist") == "0.995"
    assert figure("vae", "nll", "mnist", "auprc_id") == "0.334"  # Table 4
    assert figure("vae", "nll", "mnist", "fpr80_ood") == "0.975"  # Table 5
    assert figure("vae", "rose-ekfac", "mnist", setting="width x0.5") == "0.997"  # Table 3
    assert figure("glow", "rose-diag", "mnist", setting="layers all") == "0.733"  # Table 7
    assert figure("vae", "lratio-svd", "celeba*0.2", id="cifar10") == "0.575"  # Table 1
    assert figure("", "rnd-svd", "svhn", id="cifar10", setting="strength 22") == "0.984"  # Table 11
    assert figure("vae", "rose-ekfac", "noise") == "0.996"  # Table 2, where Table 6 has 0.992
    assert paper_figure(Subject("fashion-mnist", "vae", "elbo", ""), "mnist", "auroc") is None


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({}, ""),
        ({"width": 32}, ""),
        ({"width": 128}, "width x4"),
        ({"detector": "lratio-svd", "options": {"strength": 28}}, ""),
        ({"detector": "lratio-svd", "options": {"strength": 22}}, "strength 22"),
        ({"detector": "lratio-random", "options": {"strength": None}}, ""),
        ({"detector": "lratio-random", "options": {"strength": 0.3}}, ""),
        ({"detector": "rnd-random", "options": {"strength": 0.1, "fitting_images": None}}, "strength 0.1"),
        ({"model": "glow-fashion-mnist", "options": {"layers": ["*"]}}, "layers all"),
    ],
)
def test_a_cell_is_compared_with_the_line_of_its_settings(changes, setting):
    assert subject_of(cell("mnist", 0.9, **changes)).setting == setting


def test_what_the_paper_does_not_have_is_compared_with_nothing():
    assert subject_of(cell("mnist", 0.9, model="glow")) is None  # smaller than the paper's
    assert subject_of(cell("mnist", 0.9, model="glow-cifar10")) is None  # on another ID set
    assert subject_of(cell("mnist", 0.9, options={"fitting_images": 10})) is None


def test_only_large_differences_are_gaps_and_the_mix_of_other_sets_is_not_compared(tmp_path):
    cells = [cell("mnist", 0.975), cell("notmnist", 0.97), cell("overall", 0.1, mixed=["mnist", "notmnist"])]
    found = gaps(runs_of(tmp_path / "run", *cells))
    assert [(gap.ood, gap.paper, gap.table) for gap in found] == [("notmnist", 1.0, 2)]


def test_markdown_says_what_is_missing(tmp_path):
    runs = runs_of(tmp_path / "run", cell("mnist", 0.9), cell("noise", 0.996), missing={"kmnist": "not here"})
    text = as_markdown(runs)
    (values,) = rows_of(text, "rose-ekfac")
    assert values["mnist"] == "0.900 (0.995, -0.095)"
    assert values["noise"] == "0.996 (0.996, 0.000)"
    assert values["kmnist"] == "no data (0.997)"
    assert values["svhn"] == "not run (1.000)"
    assert "No data: kmnist." in text
