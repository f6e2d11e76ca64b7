"""What a finished run looks like: tables for people, one JSON document for programs.

Names are handed to rich as `Text`: in a plain string it takes what stands in brackets for its own.
"""

import json
from dataclasses import asdict
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from oodkit.bench.cell import METRICS, OVERALL, Cell, not_finite, unsteady
from oodkit.bench.figure import Figure, over_sets, speed_text
from oodkit.bench.runner import BenchResult
from oodkit.bench.spec import BASELINE, BASELINE_LEGEND

__all__ = ["as_json", "failure_text", "print_tables"]

TITLES = {"auroc": "AUROC", "auprc": "AUPRC", "fpr95": "FPR95", "fpr80": "FPR80"}
SUMS = ("mean", "worst")  # over the OOD sets
EDGE = 2  # columns to the left and right of a table
LEGEND = (
    "AUROC, AUPRC (OOD positive): 1 is best; an AUROC below 0.5 is worse than chance. FPR95, FPR80: the share of "
    "OOD taken for ID where 95 % or 80 % of ID are kept; 0 is best."
)


def print_tables(result: BenchResult, console: Console) -> None:
    """Print a table per detector and, for several, one that compares them."""
    console.print(_headline(result), soft_wrap=True)
    detectors = [planned.name for planned in result.plan.detectors if planned.name not in result.left_out]
    for detector in detectors:
        console.print(_detector_table(result, detector))
    if len(detectors) > 1:
        for table in _comparison(result, detectors, console.width):
            console.print(table)
    for sentence in (*not_finite(result.cells), *unsteady(result.cells)):
        console.print(Text(sentence, style="yellow"), soft_wrap=True)
    console.print(Text(LEGEND, style="dim"))
    if BASELINE in detectors and len(detectors) > 1:
        console.print(Text(BASELINE_LEGEND, style="dim"), soft_wrap=True)
    made = len(result.cells) - result.reused
    where = f"Run folder: {result.plan.run_folder} ({made} cells made now, {result.reused} found)"
    console.print(Text(where), soft_wrap=True)


def as_json(results: list[BenchResult]) -> str:
    """Return the whole result as one JSON document; of several runs, a list under `runs`."""
    documents = [_document(result) for result in results]
    return json.dumps(documents[0] if len(documents) == 1 else {"runs": documents}, indent=2, allow_nan=False)


def _document(result: BenchResult) -> dict[str, Any]:  # Any: what JSON can hold
    return {
        "run_folder": str(result.plan.run_folder),
        "spec": result.plan.spec.model_dump(mode="json"),
        "cells": [asdict(cell) for cell in result.cells],
        "summary": {planned.name: _summary(result, planned.name) for planned in result.plan.detectors},
        "failures": [asdict(failure) for failure in result.failures],
        "left_out": result.left_out,
        "missing": result.missing,
        "reused": result.reused,
    }


def failure_text(result: BenchResult) -> str:
    """Return one sentence for each reason why cells are missing, with our bugs' tracebacks."""
    texts = []
    for failure in result.failures:
        names = list(dict.fromkeys(detector for detector, _, _ in failure.cells))
        sets = list(dict.fromkeys(ood for _, ood, _ in failure.cells))
        where = f"{', '.join(names)} on {', '.join(sets)}"
        texts.append(f"{failure.trace}{len(failure.cells)} cells failed ({where}): {failure.reason}")
    return "\n".join(texts)


# --- figures ------------------------------------------------------------------------------------------------------


def _cells(result: BenchResult, detector: str, ood: str) -> list[Cell]:
    return [cell for cell in result.cells if cell.detector == detector and cell.ood == ood]


def _figure(result: BenchResult, detector: str, ood: str, metric: str) -> Figure | None:
    if ood in SUMS:
        cells = [cell for name in result.ood for cell in _cells(result, detector, name)]
        return over_sets(cells, metric, len(result.ood)).get(ood)
    found = _cells(result, detector, ood)
    return Figure.of(getattr(cell, metric) for cell in found) if found else None


def _summary(result: BenchResult, detector: str) -> dict[str, Any]:  # Any: what JSON can hold
    rows = {row: {m: _figure(result, detector, row, m) for m in METRICS} for row in _rows_below(result)}
    return {row: {m: asdict(f) for m, f in figures.items() if f is not None} for row, figures in rows.items()}


def _rows_below(result: BenchResult) -> list[str]:
    """Return the rows that sum up; none for a single OOD set, which they would only repeat."""
    return [OVERALL, *SUMS] if len(result.ood) > 1 else []


# --- tables -------------------------------------------------------------------------------------------------------


def _headline(result: BenchResult) -> Text:
    spec, cells = result.plan.spec, result.cells
    parts = [f"ID: {spec.id}" + (f", {cells[0].n_id:,} test images" if cells else "")]
    if any(planned.needs_model for planned in result.plan.detectors):
        source = f" from {result.plan.model_file}" if result.plan.model_file else ""
        parts.append(f"model: {result.plan.model.spec.name}{source}")
    parts.append(f"seeds: {', '.join(map(str, spec.seeds))}" if len(spec.seeds) > 1 else f"seed: {spec.seeds[0]}")
    devices = sorted({cell.device for cell in cells})
    return Text(" · ".join(parts + devices), style="bold")


def _detector_table(result: BenchResult, detector: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    widest = max(map(len, (*result.ood, *(planned.name for planned in result.plan.detectors))))
    table.add_column(Text(detector), overflow="fold", header_style="bold cyan", min_width=min(widest, 20))
    for metric in METRICS:
        table.add_column(TITLES[metric], justify="right", no_wrap=True)
    table.add_column("images/s", justify="right", no_wrap=True)
    for ood in result.ood:
        table.add_row(Text(ood), *_metric_texts(result, detector, ood), _speed(_cells(result, detector, ood)))
    table.add_section()
    for row in _rows_below(result):
        table.add_row(row, *_metric_texts(result, detector, row), "", style="bold" if row != OVERALL else "")
    return table


def _metric_texts(result: BenchResult, detector: str, ood: str) -> list[Text]:
    return [_as_text(_figure(result, detector, ood, metric), metric) for metric in METRICS]


def _as_text(figure: Figure | None, metric: str) -> Text:
    if figure is None:
        return Text("failed", style="red")
    bad = metric == "auroc" and figure.mean < 0.5
    return Text(str(figure), style="red" if bad else "")


def _speed(cells: list[Cell]) -> str:
    speeds = [cell.images_per_second for cell in cells if cell.images_per_second is not None]
    return speed_text(fmean(speeds)) if speeds else ""


def _comparison(result: BenchResult, detectors: list[str], width: int) -> list[Table]:
    """Return the AUROC of all detectors: sets down and detectors across; the other way round where that is too wide."""
    sets = [*result.ood, *_rows_below(result)]
    texts = {ood: _compared(result, detectors, ood) for ood in sets}
    figure = max((text.plain for row in texts.values() for text in row.values()), key=len)
    if EDGE + _wide("AUROC", *sets) + sum(_wide(d, figure) for d in detectors) <= width:
        table = _auroc_table(detectors)
        for ood in sets:
            if ood == OVERALL:
                table.add_section()
            table.add_row(Text(ood), *(texts[ood][d] for d in detectors))
        return [table]
    tables = []
    sets = [*_rows_below(result)[::-1], *result.ood]  # what sums up comes first: there may be many sets
    while sets:
        free = width - EDGE - _wide("AUROC", *detectors)
        shown: list[str] = []
        while sets and (not shown or _wide(sets[0], figure) <= free):
            free -= _wide(sets[0], figure)
            shown.append(sets.pop(0))
        tables.append(_auroc_table(shown))
        for detector in detectors:
            tables[-1].add_row(Text(detector), *(texts[ood][detector] for ood in shown))
    return tables


def _auroc_table(columns: list[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("AUROC", no_wrap=True, header_style="bold cyan")
    for column in columns:
        table.add_column(Text(column), justify="right", no_wrap=True)
    return table


def _wide(*texts: str) -> int:
    """Return the width of a column of these texts, with what separates it from the next."""
    return max(map(len, texts)) + 2


def _compared(result: BenchResult, detectors: list[str], ood: str) -> dict[str, Text]:
    """Return each detector's AUROC on one set, the best in bold."""
    figures = {d: _figure(result, d, ood, "auroc") for d in detectors}
    whole = {d: f for d, f in figures.items() if f is not None and not f.partial}
    best = max((round(f.mean, 3) for f in whole.values()), default=None)
    texts = {}
    for detector, figure in figures.items():
        texts[detector] = _as_text(figure, "auroc")
        if detector in whole and round(whole[detector].mean, 3) == best:
            texts[detector].stylize("bold")
    return texts
