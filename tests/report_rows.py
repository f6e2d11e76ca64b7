"""Rows of run folders as reports read them, and the tables of a report as tests read them."""

import json
from dataclasses import asdict

from oodkit.bench.cell import Cell
from oodkit.bench.report.runs import read_runs

__all__ = ["cell", "described", "rows_of", "runs_of"]


def cell(ood, value, *, seed=0, detector="rose-ekfac", options=None, width=None, **changes):
    prepared = {**described(), "steps": ["bilinear 28x28 -> 32x32"]}
    sets = {"train": prepared, "id": prepared, "ood": prepared if ood != "overall" else changes.pop("mixed")}
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


def described(source="there", count=9):
    return {"count": count, "shape": [1, 32, 32], "source": source, "steps": [], "skipped": 0}


def runs_of(folder, *cells, missing=None):
    folder.mkdir(exist_ok=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(asdict(one)) + "\n" for one in cells))
    if missing:
        (folder / "missing.json").write_text(json.dumps(missing))
    return read_runs([folder])


def rows_of(text, label):
    """The cells of each Markdown row that bears the label, by the names of its table's columns."""
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("| AUROC |")]
    cells = [[[cell.strip() for cell in line.strip("|").split("|")] for line in table] for table in tables]
    return [dict(zip(table[0], row, strict=True)) for table in cells for row in table[2:] if row[0] == label]
