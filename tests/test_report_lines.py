"""A line of a report is of one thing only: which rows join one, and which of two measurements counts."""

import numpy as np
import pytest
from report_rows import cell, described, runs_of

from oodkit.bench.report.page import as_html
from oodkit.bench.report.runs import read_runs
from oodkit.cli import main
from oodkit.errors import RunFolderError


def lines(folder, *cells):
    """The lines of a report of these rows: their labels, and the AUROCs by seed."""
    (section,) = runs_of(folder, *cells).sections
    return {
        one.label: {c.seed: c.auroc for cells in one.cells.values() for c in cells if c.ood != "overall"}
        for one in section.series
    }


def test_seeds_are_averaged_and_options_kept_apart(tmp_path):
    cells = [cell("mnist", 0.9), cell("mnist", 0.8, seed=1), cell("mnist", 0.5, options={"damping": 1.0})]
    (section,) = runs_of(tmp_path / "run", *cells).sections
    assert [one.label for one in section.series] == ["rose-ekfac", "rose-ekfac, damping=1.0"]
    figure = section.series[0].figure("mnist", "auroc")
    assert (figure.mean, figure.deviation) == (pytest.approx(0.85), pytest.approx(np.std([0.9, 0.8], ddof=1)))


def test_of_two_measurements_the_one_on_more_images_counts_then_the_later_row(tmp_path):
    cells = [
        cell("mnist", 0.9, n_id=500),
        cell("mnist", 0.8, n_id=10, date="2026-12-01"),
        cell("noise", 0.7, date="2027-01-01"),  # the clock was wrong
        cell("noise", 0.6, date="2026-12-01"),
    ]
    for rows, later in ((cells, 0.6), (cells[::-1], 0.7)):
        (section,) = runs_of(tmp_path / "run", *rows).sections
        assert [section.series[0].figure(ood, "auroc").mean for ood in ("mnist", "noise")] == [0.9, later]


def test_of_two_folders_the_later_date_counts(tmp_path):
    for name, value, date in (("a", 0.7, "2026-12-02"), ("b", 0.6, "2026-12-01")):
        runs_of(tmp_path / name, cell("noise", value, date=date))
    for names in ("ab", "ba"):
        (section,) = read_runs([tmp_path / name for name in names]).sections
        assert str(section.series[0].figure("noise", "auroc")) == "0.700"


def test_other_models_of_the_same_options_are_lines_of_their_own(tmp_path):
    def of(value, file, model):
        return cell("mnist", value, model_file=file, hashes={"model": model})

    assert lines(tmp_path, of(0.9, "a/one.oodkit", "1"), of(0.8, "a/two.oodkit", "2")) == {
        "rose-ekfac, model=one.oodkit": {0: 0.9},
        "rose-ekfac, model=two.oodkit": {0: 0.8},
    }
    assert lines(tmp_path, of(0.9, "a/one.oodkit", "1"), of(0.8, "b/one.oodkit", "2")) == {
        "rose-ekfac, model=a/one.oodkit": {0: 0.9},
        "rose-ekfac, model=b/one.oodkit": {0: 0.8},
    }
    trained_again = lines(tmp_path, of(0.9, "one.oodkit", "1" * 32), of(0.8, "one.oodkit", "2" * 32))
    assert list(trained_again) == ["rose-ekfac, model=11111111", "rose-ekfac, model=22222222"]
    assert lines(tmp_path, of(0.9, "one.oodkit", "1"), of(0.8, "/there/one.oodkit", "1")) == {"rose-ekfac": {0: 0.8}}


def test_one_model_for_all_seeds_and_a_model_for_each_are_two_lines(tmp_path):
    own = [cell("mnist", 0.9, hashes={"model": "a"}), cell("mnist", 0.8, seed=1, hashes={"model": "b"})]
    shared = cell("mnist", 0.7, seed=1, hashes={"model": "a"})  # that of seed 0 is the first of `own`
    assert lines(tmp_path, *own, shared) == {
        "rose-ekfac, model=a…": {0: 0.9, 1: 0.8},
        "rose-ekfac, model=a": {0: 0.9, 1: 0.7},
    }


def test_other_numbers_of_training_images_are_lines_of_their_own(tmp_path):
    few, many = (
        {"sets": {"train": described(count=count), "id": described(), "ood": described()}} for count in (10, 100)
    )
    assert lines(tmp_path, cell("mnist", 0.9, **few), cell("mnist", 0.8, **many)) == {
        "rose-ekfac, training images=10": {0: 0.9},
        "rose-ekfac, training images=100": {0: 0.8},
    }


def test_two_files_of_one_name_are_two_lines(tmp_path):
    def of(value, source, images, n_ood=10):
        sets = {"train": described(), "id": described(), "ood": described(source)}
        return cell("x.npz", value, sets=sets, hashes={"ood": images}, n_ood=n_ood)

    rows = of(0.9, "a/x.npz", "1"), of(0.8, "b/x.npz", "2", n_ood=20)
    page = as_html(runs_of(tmp_path, *rows))
    assert "from a/x.npz" in page and "from b/x.npz" in page
    assert lines(tmp_path, *rows) == {
        "rose-ekfac, x.npz=a/x.npz": {0: 0.9},
        "rose-ekfac, x.npz=b/x.npz": {0: 0.8},
    }
    changed = lines(tmp_path, of(0.9, "a/x.npz", "1" * 32), of(0.8, "a/x.npz", "2" * 32))
    assert list(changed) == ["rose-ekfac, x.npz=11111111", "rose-ekfac, x.npz=22222222"]
    moved = lines(tmp_path, of(0.9, "a/x.npz", "1"), of(0.8, "b/x.npz", "1"))
    assert moved == {"rose-ekfac": {0: 0.8}}


def test_a_changed_id_set_is_not_mixed_with_what_it_was(tmp_path):
    old = [cell(ood, 0.9, hashes={"id": "1"}) for ood in ("mnist", "noise")]
    new = cell("mnist", 0.8, hashes={"id": "2"})
    (section,) = runs_of(tmp_path, *old, new).sections
    assert [list(one.cells) for one in section.series] == [["mnist", "noise"], ["mnist"]]


def test_a_mix_alone_makes_no_line(tmp_path):
    with pytest.raises(RunFolderError, match="no finished cell to report"):
        runs_of(tmp_path, cell("overall", 0.1, mixed=["mnist", "noise"]))


def test_no_run_folder_is_one_sentence(tmp_path, capsys):
    with pytest.raises(RunFolderError, match="no run folder"):
        read_runs([tmp_path])
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
