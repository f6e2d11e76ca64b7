"""How far scores move with the batch size: measured in every run, shown in every report."""

import json
import re
from dataclasses import replace

import pytest
import torch

from oodkit.bench.report.markdown import as_markdown
from oodkit.bench.report.page import as_html
from oodkit.bench.report.runs import read_runs
from oodkit.bench.rows import fingerprint
from oodkit.bench.runner import run_bench
from oodkit.bench.spec import read_spec
from oodkit.bench.store import RunFolder
from oodkit.cli import main

pytest_plugins = ["bench_fixtures"]
pytestmark = pytest.mark.usefixtures("stub", "sets")


def run(detectors, **fields):
    return run_bench(
        read_spec(**{"detectors": detectors, "id": "id.npz", "ood": "mixed.npz", "baseline": False, **fields})
    )


def spread(detector, **fields):
    (cell,) = run(detector, **fields).cells
    return cell.batch_spread


def shown(text, detector):
    """What the table of a Markdown report says of a detector's spread."""
    _, table = text.split("| detector | images/s | spread over batch sizes |")
    (row,) = [line for line in table.splitlines() if line.startswith(f"| {detector} |")]
    return row.split("|")[3].strip()


def test_it_is_the_greatest_change_in_deviations_of_the_id_scores():
    result = run("neighbourly", limit=8)  # as many as are scored alone: none is left out
    with RunFolder(result.plan.run_folder) as folder:
        scores = folder.scores(result.cells[0].hashes["id_scores"]).values.double()
    alone = torch.zeros(8)  # the batch's mean is the image's own score
    assert result.cells[0].batch_spread == pytest.approx(float((scores - alone).abs().max() / scores.std()))


def test_what_does_not_depend_on_the_batch_moves_by_rounding_alone():
    options = {"vae": {"width": 4, "latent": 4, "epochs": 1}}
    cells = run("rose-ekfac,elbo,brightness", model="vae", options=options).cells
    assert [cell.detector for cell in cells] == ["rose-ekfac", "elbo", "brightness"]
    assert all(0 <= cell.batch_spread < 1e-3 for cell in cells), [cell.batch_spread for cell in cells]


@pytest.mark.filterwarnings("ignore:undefined. 12 of 12 scores are NaN")
def test_infinite_scores_have_a_spread_too():
    assert spread("undefined") == 0  # infinite among others and alone
    assert spread("lonely") == pytest.approx(1e6)  # infinite alone: more than any number of deviations


def test_one_by_one_there_is_nothing_to_compare():
    assert spread("neighbourly", batch_size=1) is None


def test_a_report_shows_it_and_points_out_who_depends_on_the_batch(sets, capsys):
    command = ["bench", "--no-baseline", "--detector", "neighbourly,brightness"]
    command += ["--id", "id.npz", "--ood", "bright.npz,mixed.npz"]
    assert main([*command, "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    found = {cell["detector"]: cell["batch_spread"] for cell in cells}
    assert found["neighbourly"] > 0.01 and found["brightness"] < 1e-3
    assert len({(cell["detector"], cell["batch_spread"]) for cell in cells}) == 2  # the same beside every OOD set
    said = f"neighbourly, seed 0: scored alone, an image of id.npz moves by {found['neighbourly']:.2g} deviations"
    assert main(command) == 0
    assert capsys.readouterr().out.replace("\n", " ").count(said) == 1
    runs = read_runs(["runs/id"])
    page, text = as_html(runs), as_markdown(runs)
    for report in (page, text):
        assert report.count(said) == 1
        assert "brightness, seed 0" not in report
    for detector, value in found.items():
        assert float(shown(text, detector)) == pytest.approx(value, rel=0.05)
    (table,) = re.findall(r"<h3>Speed, and spread over batch sizes</h3>.*?</table>", page)
    assert re.findall(r"<tr><td>(\w+)</td><td>[^<]+</td><td( class=d4)?>", table) == [
        ("neighbourly", " class=d4"),
        ("brightness", ""),
    ]


def test_of_several_seeds_the_report_shows_the_greatest(sets):
    cells = run("neighbourly", seeds="0,1,2", limit=5).cells
    spreads = [cell.batch_spread for cell in cells]
    assert len(set(spreads)) == 3
    assert shown(as_markdown(read_runs(["runs/id"])), "neighbourly") == f"{max(spreads):.2g}"


def test_a_run_folder_without_it_is_kept_and_says_nothing(sets, stub):
    result = run("brightness")
    rows = sets / "runs" / "id" / "results.jsonl"
    row = json.loads(rows.read_text())
    del row["batch_spread"], row["check"]
    rows.write_text(json.dumps({**row, "check": fingerprint(**row)}) + "\n")
    key = row["hashes"]["id_scores"]
    with RunFolder(result.plan.run_folder) as folder:
        folder.write_scores(key, replace(folder.scores(key), batch_spread=None))
    stub.CALLS.clear()
    again = run("brightness", ood="mixed.npz,bright.npz")
    assert again.reused == 1
    assert stub.CALLS == ["score"]  # bright.npz
    assert {cell.batch_spread for cell in again.cells} == {None}
    runs = read_runs(["runs/id"])
    assert shown(as_markdown(runs), "brightness") == ""
    assert "brightness</td>" in as_html(runs)
