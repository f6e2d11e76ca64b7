"""The report's AUROCs as Markdown: ours, the paper's, the difference."""

from oodkit.bench.cell import OVERALL, not_finite, unsteady
from oodkit.bench.figure import speed_text
from oodkit.bench.report.compare import SPREAD, differences, gaps, signed, swept
from oodkit.bench.report.runs import Runs, Section, Series
from oodkit.bench.spec import BASELINE_LEGEND

__all__ = ["as_markdown"]


def as_markdown(runs: Runs) -> str:
    """Return one table for each model and ID set; a cell holds our AUROC, and the paper's with the difference."""
    parts = []
    for section in runs.sections:
        parts += [f"## {_text(section.title)}", "", *_table(runs, section), "", *_controls(section), *_sweeps(section)]
        parts += _cost(section)
    compared, large = differences(runs), gaps(runs)
    if compared:
        parts += [f"{len(compared) - len(large)} of {len(compared)} AUROCs are within 0.02 of the paper's.", ""]
    if sentences := [*not_finite(runs.cells), *unsteady(runs.cells)]:
        parts += [*(f"- {_text(sentence)}" for sentence in sentences), ""]
    if runs.show_baseline:
        parts += [_text(BASELINE_LEGEND), ""]
    if runs.missing:
        parts += [f"No data: {_text(', '.join(runs.missing))}.", ""]
    dates = sorted(cell.date[:10] for cell in runs.cells)
    devices = ", ".join(sorted({cell.device for cell in runs.cells}))
    torch = ", ".join(sorted({cell.versions.get("torch", "?") for cell in runs.cells}))
    parts.append(f"Made {_text(dates[0])} to {_text(dates[-1])} on {_text(devices)}, torch {_text(torch)}.")
    return "\n".join(parts) + "\n"


def _table(runs: Runs, section: Section) -> list[str]:
    columns = [*section.sets, *([OVERALL] if any(OVERALL in one.cells for one in section.series) else [])]
    shown = [one for one in section.series if any(ood in one.cells for ood in columns)]
    if not shown:
        return []
    lines = [f"| AUROC | {' | '.join(map(_text, columns))} | mean | worst |", "| --- |" + " --- |" * (len(columns) + 2)]
    for one in shown:
        over = one.over(section.run_sets, "auroc")
        sums = [str(over[name]) if over else "" for name in ("mean", "worst")]
        lines.append(f"| {_text(one.label)} | {' | '.join([*(_cell(runs, one, ood) for ood in columns), *sums])} |")
    return lines


def _cell(runs: Runs, one: Series, ood: str) -> str:
    figure, paper = one.figure(ood, "auroc"), one.paper(ood, "auroc")
    if figure is None:
        absent = "no data" if ood in runs.missing else "not run" if paper else ""
        return f"{absent} ({paper.value:.3f})" if paper else absent
    return f"{figure} ({paper.value:.3f}, {signed(figure.mean - paper.value)})" if paper else str(figure)


def _controls(section: Section) -> list[str]:
    shown = [one for one in section.series if any(ood in one.cells for ood in section.controls)]
    if not shown:
        return []
    lines = ["What preparation alone does: 0.5 says that the detector does not see it.", ""]
    lines += [f"| AUROC | {' | '.join(map(_text, section.controls))} |", "| --- |" + " --- |" * len(section.controls)]
    for one in shown:
        figures = [one.figure(ood, "auroc") for ood in section.controls]
        lines.append(f"| {_text(one.label)} | {' | '.join('' if f is None else str(f) for f in figures)} |")
    return [*lines, ""]


def _sweeps(section: Section) -> list[str]:
    lines = []
    for one in swept(section):
        factors = " | ".join(f"x{factor}" for factor in one.factors)
        lines += [f"{_text(one.base)} at other brightness:", ""]
        lines += [f"| AUROC | {factors} | mean | deviation |", "| --- |" + " --- |" * (len(one.factors) + 2)]
        for line in one.lines:
            cells = [_swept(value, paper) for value, paper in zip(line.values, line.paper, strict=True)]
            sums = [_swept(line.mean, line.paper_mean), _swept(line.deviation, line.paper_deviation)]
            lines.append(f"| {_text(line.label)} | {' | '.join([*cells, *sums])} |")
        lines.append("")
    return lines


def _cost(section: Section) -> list[str]:
    lines = [SPREAD, "", "| detector | images/s | spread over batch sizes |", "| --- | --- | --- |"]
    for one in section.series:
        speed = "" if one.images_per_second is None else speed_text(one.images_per_second)
        spread = "" if one.batch_spread is None else f"{one.batch_spread:.2g}"
        lines.append(f"| {_text(one.label)} | {speed} | {spread} |")
    return [*lines, ""]


def _swept(value: float | None, paper: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if paper is None else f"{value:.3f} ({paper:.3f}, {signed(value - paper)})"


def _text(name: str) -> str:
    """Return a name with what Markdown would take for itself escaped."""
    return "".join(
        f"\\{letter}" if letter in "\\|*_`[]<>#&" else " " if letter in "\r\n" else letter for letter in name
    )
