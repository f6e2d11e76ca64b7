"""The page of a report: it needs no network, explains scores, bounds what it repeats, and names stay text."""

import re
from html.parser import HTMLParser

import pytest
import torch
from report_rows import cell, runs_of

from oodkit.bench.report.markdown import as_markdown
from oodkit.bench.report.page import as_html
from oodkit.bench.runner import run_bench
from oodkit.bench.spec import parse_settings, read_spec
from oodkit.bench.store import RunFolder, Scores
from oodkit.cli import main
from oodkit.named_detectors import create_detector, load_detector

pytest_plugins = ["bench_fixtures"]

EVIL = "<b>&\"'|`x`"


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


@pytest.mark.usefixtures("stub")
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


@pytest.mark.usefixtures("stub")
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
