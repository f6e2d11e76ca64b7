"""The tables of a report: means and mixes, sweeps over brightness and options, controls."""

import re

import numpy as np
import pytest
from report_rows import cell, rows_of, runs_of

from oodkit.bench.report.compare import option_groups, swept
from oodkit.bench.report.markdown import as_markdown
from oodkit.bench.report.page import as_html


def test_a_mix_of_other_sets_than_the_line_s_is_not_shown(tmp_path):
    cells = [cell("mnist", 0.9), cell("noise", 0.8), cell("overall", 0.1, mixed=["mnist", "noise"])]
    runs = runs_of(tmp_path, *cells)
    assert str(runs.sections[0].series[0].figure("overall", "auroc")) == "0.100"
    runs = runs_of(tmp_path, *cells, cell("constant", 0.7))
    assert runs.sections[0].series[0].figure("overall", "auroc") is None
    assert as_html(runs) and as_markdown(runs)


def test_sweeps_and_options_make_groups(tmp_path):
    cells = [cell(f"mnist{star}", v) for star, v in (("*1.8", 0.9), ("", 0.7), ("*0.2", 0.2))]
    cells += [cell("noise", 0.5 + n / 1e4, seed=s, options={"fitting_images": n}) for n in (1000, 10) for s in (0, 1)]
    (section,) = runs_of(tmp_path / "run", *cells).sections
    (sweep,) = swept(section)
    assert (sweep.base, sweep.factors) == ("mnist", ["0.2", "1", "1.8"])
    assert sweep.lines[0].values == [0.2, 0.7, 0.9]
    assert sweep.lines[0].mean == pytest.approx(0.6)
    assert sweep.lines[0].deviation == pytest.approx(np.std([0.2, 0.7, 0.9]))
    (group,) = option_groups(section)
    assert (group.option, [name for name, _ in group.by_set["noise"]]) == ("fitting_images", ["10", "1000"])


def test_a_set_with_a_star_in_its_name_is_no_brightness(tmp_path):
    odd = ["a*0.5/x.npz", "stars*", "*", "x*nan"]
    runs = runs_of(tmp_path / "run", *(cell(ood, 0.5) for ood in (*odd, "mnist*0.2")))
    (section,) = runs.sections
    assert list(section.sweeps) == ["mnist"]
    assert section.sets[: len(odd)] == odd
    assert as_html(runs) and as_markdown(runs)


def test_controls_stand_apart_and_count_in_no_mean(tmp_path):
    cells = [cell("mnist", 0.9), cell("noise", 0.7), cell("resized:mnist", 0.5), cell("recompressed:mnist", 0.6)]
    (section,) = runs_of(tmp_path / "run", *cells).sections
    assert section.controls == ["resized:mnist", "recompressed:mnist"]
    assert not set(section.controls) & set(section.sets)
    runs = runs_of(tmp_path / "run", *cells)
    (table,) = re.findall(r"<h3>What preparation alone does.*?</table>", as_html(runs))
    assert "<td>0.500</td><td>0.600</td>" in table
    results, controls = rows_of(as_markdown(runs), "rose-ekfac")
    assert results["mean"] == "0.800"
    assert controls == {"AUROC": "rose-ekfac", "resized:mnist": "0.500", "recompressed:mnist": "0.600"}


def test_mean_and_worst_are_those_of_the_table_and_say_over_how_many_sets(tmp_path):
    """Of each seed, as `oodkit bench` has them: not the worst of the seeds' means."""
    aurocs = {("mnist", 0): 0.9, ("mnist", 1): 0.5, ("noise", 0): 0.6, ("noise", 1): 0.8}
    rows = [cell(ood, auroc, seed=seed) for (ood, seed), auroc in aurocs.items()]
    rows += [cell(ood, 0.9, options={"damping": 1.0}) for ood in ("mnist", "noise", "constant")]
    runs = runs_of(tmp_path / "run", *rows)
    first, second = runs.sections[0].series
    over = first.over(["mnist", "noise"], "auroc")
    assert over["worst"].mean == pytest.approx((0.6 + 0.5) / 2)
    assert over["worst"].deviation == pytest.approx(np.std([0.6, 0.5], ddof=1))
    (partial,), (whole,) = (rows_of(as_markdown(runs), one.label) for one in (first, second))
    assert partial["worst"] == "0.550±0.071 (2 of 3)" and whole["worst"] == "0.900"
    assert '<td class="sum">0.550±0.071 (2 of 3)</td>' in as_html(runs)


def test_markdown_has_the_mix_the_mean_and_the_sweep_over_brightness(tmp_path):
    values = {"mnist": 0.9, "noise": 0.5, "mnist*0.2": 0.25, "mnist*1.8": 0.375}
    cells = [cell(ood, value, detector="nll") for ood, value in values.items()]
    cells.append(cell("overall", 0.75, detector="nll", mixed=["mnist", "noise"]))
    runs = runs_of(tmp_path / "run", *cells)
    table, sweep = rows_of(as_markdown(runs), "nll")
    assert table["overall"].startswith("0.750")
    assert (table["mean"], table["worst"]) == ("0.700", "0.500")
    assert not any("*" in column for column in table)
    assert [sweep[factor][:5] for factor in ("x0.2", "x1", "x1.8")] == ["0.250", "0.900", "0.375"]
    assert sweep["mean"][:5] == f"{np.mean([0.25, 0.9, 0.375]):.3f}"
    assert sweep["deviation"][:5] == f"{np.std([0.25, 0.9, 0.375]):.3f}"


def test_the_baseline_stands_in_every_table_of_its_id_set_and_only_with_the_sets_of_that_table(tmp_path):
    alone = {"detector": "complexity", "model": ""}
    mixed = {"mixed": ["mnist", "noise"]}
    cells = [cell("mnist", 0.9), cell("noise", 0.8), cell("overall", 0.7, **mixed), cell("mnist", 0.6, model="glow")]
    cells += [cell(ood, 0.5, **alone) for ood in ("mnist", "noise")] + [cell("overall", 0.4, **mixed, **alone)]
    of_vae, of_glow = runs_of(tmp_path / "models", *cells).sections  # no section of its own
    assert [(one.detector, list(one.cells)) for one in of_vae.series] == [
        ("rose-ekfac", ["mnist", "noise", "overall"]),
        ("complexity", ["mnist", "noise", "overall"]),
    ]
    assert [(one.detector, list(one.cells)) for one in of_glow.series] == [
        ("rose-ekfac", ["mnist"]),
        ("complexity", ["mnist"]),
    ]
    other = cell("mnist", 0.3, detector="rnd-svd", model="")
    *models, without = runs_of(tmp_path / "others", *cells, other).sections
    assert [section.model for section in models] == ["vae", "glow"]
    assert {one.detector for one in without.series} == {"complexity", "rnd-svd"}
    legend = "complexity has no model: what another detector adds to it"
    for shown, found in ((True, cells), (False, cells[:4]), (False, cells[4:])):
        runs = runs_of(tmp_path / f"{shown}{len(found)}", *found)
        assert (legend in as_html(runs), legend in as_markdown(runs)) == (shown, shown)
        assert runs.sections
