"""The report of run folders: what it compares with the paper, what it says is missing, and that names stay text."""

import json
import re
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from oodkit.bench.cell import Cell
from oodkit.bench.metrics import auroc
from oodkit.bench.report import plots
from oodkit.bench.report.compare import gaps, option_groups, swept
from oodkit.bench.report.markdown import as_markdown
from oodkit.bench.report.page import as_html
from oodkit.bench.report.paper import Subject, paper_figure, subject_of
from oodkit.bench.report.runs import read_runs
from oodkit.bench.runner import run_bench
from oodkit.bench.spec import parse_settings, read_spec
from oodkit.bench.store import RunFolder, Scores
from oodkit.cli import main
from oodkit.errors import RunFolderError
from oodkit.named_detectors import create_detector, load_detector

pytest_plugins = ["bench_fixtures"]
pytestmark = pytest.mark.usefixtures("stub", "sets")

EVIL = "<b>&\"'|`x`"


def cell(ood, value, *, seed=0, detector="rose-ekfac", options=None, width=None, **changes):
    described = {
        "count": 9,
        "shape": [1, 32, 32],
        "source": "there",
        "steps": ["bilinear 28x28 -> 32x32"],
        "skipped": 0,
    }
    sets = {"train": described, "id": described, "ood": described if ood != "overall" else changes.pop("mixed")}
    numbers = dict.fromkeys(("auprc", "auprc_id", "fpr95", "fpr80", "fpr95_ood", "fpr80_ood"), 0.5)
    fields = {
        "key": f"{ood} {seed} {detector} {options} {width} {changes}",
        "detector": detector,
        "model": "vae",
        "id": "fashion-mnist",
        "ood": ood,
        "seed": seed,
        "n_id": 10,
        "n_ood": 10,
        "auroc": value,
        **numbers,
        "images_per_second": 100.0,
        "non_finite_id": 0,
        "non_finite_ood": 0,
        "device": "cpu, 2 threads",
        "options": {"seed": seed, **(options or {})},
        "model_options": {"width": width},
        "hashes": {"id_scores": "none"},
        "sets": sets,
        "versions": {"oodkit": "0.1.0", "torch": "2"},
        "date": "2026-11-23T00:00:00+00:00",
    }
    return Cell(**{**fields, **changes})


def runs_of(folder, *cells, missing=None):
    folder.mkdir(exist_ok=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(asdict(one)) + "\n" for one in cells))
    if missing:
        (folder / "missing.json").write_text(json.dumps(missing))
    return read_runs([folder])


# --- the paper ------------------------------------------------------------------------------------------------------


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


# --- what is read ---------------------------------------------------------------------------------------------------


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


def lines(folder, *cells):
    """The lines of a report of these rows: their labels, and the AUROCs by seed."""
    (section,) = runs_of(folder, *cells).sections
    return {
        one.label: {c.seed: c.auroc for cells in one.cells.values() for c in cells if c.ood != "overall"}
        for one in section.series
    }


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


def described(source="there", count=9):
    return {"count": count, "shape": [1, 32, 32], "source": source, "steps": [], "skipped": 0}


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


def test_a_mix_of_other_sets_than_the_line_s_is_not_shown(tmp_path):
    cells = [cell("mnist", 0.9), cell("noise", 0.8), cell("overall", 0.1, mixed=["mnist", "noise"])]
    runs = runs_of(tmp_path, *cells)
    assert str(runs.sections[0].series[0].figure("overall", "auroc")) == "0.100"
    runs = runs_of(tmp_path, *cells, cell("constant", 0.7))
    assert runs.sections[0].series[0].figure("overall", "auroc") is None
    assert as_html(runs) and as_markdown(runs)


def test_a_mix_alone_makes_no_line(tmp_path):
    with pytest.raises(RunFolderError, match="no finished cell to report"):
        runs_of(tmp_path, cell("overall", 0.1, mixed=["mnist", "noise"]))


def test_only_large_differences_are_gaps_and_the_mix_of_other_sets_is_not_compared(tmp_path):
    cells = [cell("mnist", 0.975), cell("notmnist", 0.97), cell("overall", 0.1, mixed=["mnist", "notmnist"])]
    found = gaps(runs_of(tmp_path / "run", *cells))
    assert [(gap.ood, gap.paper, gap.table) for gap in found] == [("notmnist", 1.0, 2)]


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


def test_no_run_folder_is_one_sentence(tmp_path, capsys):
    with pytest.raises(RunFolderError, match="no run folder"):
        read_runs([tmp_path])
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_mean_and_worst_are_those_of_the_table_and_say_over_how_many_sets(sets, capsys):
    """Of each seed, as `oodkit bench` has them: not the worst of the seeds' means."""
    aurocs = {("mnist", 0): 0.9, ("mnist", 1): 0.5, ("noise", 0): 0.6, ("noise", 1): 0.8}
    rows = [cell(ood, auroc, seed=seed) for (ood, seed), auroc in aurocs.items()]
    rows += [cell(ood, 0.9, options={"damping": 1.0}) for ood in ("mnist", "noise", "constant")]
    runs = runs_of(sets / "run", *rows)
    first, second = runs.sections[0].series
    over = first.over(["mnist", "noise"], "auroc")
    assert over["worst"].mean == pytest.approx((0.6 + 0.5) / 2)
    assert over["worst"].deviation == pytest.approx(np.std([0.6, 0.5], ddof=1))
    (partial,), (whole,) = (rows_of(as_markdown(runs), one.label) for one in (first, second))
    assert partial["worst"] == "0.550±0.071 (2 of 3)" and whole["worst"] == "0.900"
    assert '<td class="sum">0.550±0.071 (2 of 3)</td>' in as_html(runs)


# --- the page -------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], set(), [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_page_of_a_real_run_needs_no_network(sets, capsys):
    run_bench(read_spec(detectors="brightness,darkness", id="id.npz", ood="bright.npz,mixed.npz", seeds="0,1"))
    run_bench(
        read_spec(detectors="brightness", id="id.npz", ood="mixed.npz", options=parse_settings(["light.scale=9"]))
    )
    assert main(["report", "runs/id"]) == 0
    file = sets / "runs" / "id" / "report.html"
    assert capsys.readouterr().out == "runs/id/report.html\n"
    text = file.read_text()
    page = Page(text)
    assert "script" not in page.tags and "link" not in page.tags
    addresses = [value for name, value in page.attributes if name in ("src", "href")]
    assert addresses and all(value.startswith("data:image/png;base64,") for value in addresses)
    assert not re.search(r"url\(|@import", text)
    assert text.count("<svg") >= 2 + 6  # ROC curves of two sets, histograms of three series and two sets
    assert "brightness, scale=9.0" in page.text
    assert "prefers-color-scheme: dark" in text


def test_the_page_explains_the_highest_scores_where_the_detector_can(sets, capsys):
    options = parse_settings(["complexity.density=mahalanobis"])
    result = run_bench(read_spec(detectors="complexity,brightness", id="id.npz", ood="bright.npz", options=options))
    hashes = result.cells[0].hashes
    file = sets / "runs" / "id" / "detectors" / f"{hashes['detector']}.safetensors"
    with RunFolder(result.plan.run_folder) as folder:
        highest = folder.scores(hashes["ood_scores"]).highest[:2]
    expected = load_detector(file).explain(highest)
    assert main(["report", "runs/id"]) == 0
    without = (sets / "runs" / "id" / "report.html").read_text()
    assert "look strange" not in without
    assert main(["report", "runs/id", "--explain"]) == 0
    (explained,) = re.findall(
        r"look strange, first seed</summary>(.*?)</details>", (sets / "runs" / "id" / "report.html").read_text()
    )
    assert re.findall(r"<h3>(.*?)</h3>", explained) == ["complexity"]  # of brightness there is nothing to say
    tables = re.findall(r'<table class="numbers">(.*?)</table>', explained)
    shares = expected.contributions / expected.contributions.sum(1, keepdim=True)
    for i, table in enumerate(tables):
        rows = re.findall(r"<tr><td>(\w+)</td><td>([-+.,0-9]+)</td><td>(\d+)%</td></tr>", table)
        shown = {name: (float(z.replace(",", "")), int(share)) for name, z, share in rows}
        assert set(shown) == {"png", "jp2", "jpeg"}
        for k, name in enumerate(expected.names):
            assert shown[name] == (pytest.approx(float(expected.z[i, k]), abs=0.051), round(100 * float(shares[i, k])))
    assert len(tables) == 2 and explained.count("<img") == 2
    file.unlink()
    capsys.readouterr()
    assert main(["report", "runs/id", "--explain"]) == 0
    assert "the fitted complexity is not in the run folder" in (sets / "runs" / "id" / "report.html").read_text()


STRANGE = """
from oodkit import DetectorSpec, hookimpl

@hookimpl
def oodkit_detectors():
    return [DetectorSpec(name="strange", target="oodkit_strange.detector:Strange", summary="", model="none")]
"""
STRANGE_DETECTOR = f"""
from oodkit import Detector, Explanation

class Strange(Detector):
    def _fit(self, images):
        return {{"mean": images.images.double().mean()}}

    def _score(self, images):
        return images.float().mean((1, 2, 3))

    def _explain(self, images):
        return Explanation(({EVIL!r},), self._score(images)[:, None])
"""


@pytest.fixture
def hostile_runs(tmp_path, install):
    """Every part that a report can have, each of hostile names."""
    install("oodkit-strange", STRANGE, detector=STRANGE_DETECTOR)
    folder, images = tmp_path / "run", torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).repeat(1, 1, 32, 32)
    with RunFolder(folder) as run:
        run.write_scores("scores", Scores(images[:, 0, 0, 0].float(), 9.0, EVIL, images[:3], images[5:], images[:3]))
        create_detector("strange").fit(images).save(run.detector_file("fitted"))
    described = {"count": 9, "shape": [1, 32, 32], "source": EVIL, "steps": [EVIL], "skipped": 0}
    hostile = {
        "detector": EVIL, "model": EVIL, "id": EVIL, "device": EVIL, "model_file": EVIL, "date": EVIL,
        "model_options": {EVIL: EVIL}, "sets": {"train": described, "id": described, "ood": described},
        "versions": {"oodkit": EVIL, "torch": EVIL, EVIL: EVIL}, "non_finite_ood": 1, "batch_spread": 1.0,
    }  # fmt: skip
    cells = []
    for number, fitted in ((1, "fitted"), (2, "absent")):
        kept = {"id_scores": "scores", "ood_scores": "scores", "detector": fitted}
        for ood in (EVIL, f"{EVIL}2", f"resized:{EVIL}", f"{EVIL}*0.5"):
            cells.append(cell(ood, 0.5, options={EVIL: number}, hashes=kept, **hostile))
        cells.append(cell("mnist", 0.5, options={EVIL: number}, date=EVIL))  # compared with the paper
    return runs_of(folder, *cells, missing={f"{EVIL}!": EVIL})


def test_every_name_is_escaped(hostile_runs):
    text = as_html(hostile_runs, explain=True)
    page = Page(text)
    parts = ("What preparation alone does", "at other brightness", f" by {EVIL}", "Speed of scoring", "ROC curves",
             "Scores, first seed", "lowest and the highest", "look strange", "is not in the run folder",
             "Beside the paper", "Infinite scores", "depend on the batch", "No data", "Settings")  # fmt: skip
    shown = "".join(page.text)
    assert [part for part in parts if part not in shown] == []
    assert "<b>" not in text
    assert any(EVIL in value for name, value in page.attributes if name == "aria-label")
    assert not re.search(r"(?<!\\)<b>", as_markdown(hostile_runs))


def test_markdown_says_what_is_missing(tmp_path):
    runs = runs_of(tmp_path / "run", cell("mnist", 0.9), cell("noise", 0.996), missing={"kmnist": "not here"})
    text = as_markdown(runs)
    (values,) = rows_of(text, "rose-ekfac")
    assert values["mnist"] == "0.900 (0.995, -0.095)"
    assert values["noise"] == "0.996 (0.996, 0.000)"
    assert values["kmnist"] == "no data (0.997)"
    assert values["svhn"] == "not run (1.000)"
    assert "No data: kmnist." in text


def rows_of(text, label):
    """The cells of each Markdown row that bears the label, by the names of its table's columns."""
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("| AUROC |")]
    cells = [[[cell.strip() for cell in line.strip("|").split("|")] for line in table] for table in tables]
    return [dict(zip(table[0], row, strict=True)) for table in cells for row in table[2:] if row[0] == label]


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


# --- plots ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_the_area_under_the_drawn_curve_is_the_auroc(tied):
    rng = np.random.default_rng(0)
    known, other = rng.normal(size=90), rng.normal(1, 1, size=70)
    if tied:
        known, other = known.round(), other.round()
    (path,) = re.findall(r'class="line c3" d="M([^"]+)"', plots.roc("x", [(3, known, other)]))
    points = np.array([[float(n) for n in point.split()] for point in path.split("L")])
    x = (points[:, 0] - points[0, 0]) / (points[-1, 0] - points[0, 0])
    y = (points[:, 1] - points[0, 1]) / (points[-1, 1] - points[0, 1])
    area = (np.diff(x) * (y[1:] + y[:-1]) / 2).sum()
    assert area == pytest.approx(auroc(known, other), abs=0.006)  # drawn to a tenth of a pixel


def test_plots_bear_scores_without_a_range():
    for known, other in (
        ([1.0] * 3, [1.0] * 2),
        ([np.inf] * 2, [0.0]),
        ([1.0, 2.0], [np.inf] * 4),
        ([1e-3, 1e9], [0.0]),
    ):
        assert "nan" not in plots.histogram("x", np.array(known), np.array(other))
        assert "nan" not in plots.roc("x", [(0, np.array(known), np.array(other))])


def test_infinite_scores_are_counted_on_the_page_and_in_the_markdown(tmp_path):
    runs = runs_of(tmp_path, cell("mnist", 0.5, non_finite_ood=3), cell("noise", 0.9))
    said = "rose-ekfac, seed 0: infinite scores of 0 of 10 images of fashion-mnist and 3 of 10 of mnist"
    assert said in as_html(runs) and said in as_markdown(runs)
    assert as_html(runs).count("infinite scores of") == as_markdown(runs).count("infinite scores of") == 1


def test_the_same_said_of_many_cells_is_bounded(tmp_path):
    many = runs_of(tmp_path, *(cell("mnist", 0.5, seed=seed, non_finite_ood=1) for seed in range(500)))
    for text in (as_html(many), as_markdown(many)):
        assert text.count("infinite scores of") == 20
        assert "… and 480 more like these" in text
