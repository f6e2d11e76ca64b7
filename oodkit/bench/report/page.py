"""The report as one HTML page: no network, no script, light and dark. Every name that it shows is escaped."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image
from torch import Tensor

from oodkit import __version__
from oodkit.bench.cell import OVERALL, UNSTEADY, Cell, DescribedSet, not_finite, unsteady
from oodkit.bench.figure import Figure, speed_text
from oodkit.bench.report import plots
from oodkit.bench.report.compare import (
    METRICS,
    SPREAD,
    Gap,
    Swept,
    differences,
    gaps,
    option_groups,
    signed,
    swept,
)
from oodkit.bench.report.explained import SIDE, explained
from oodkit.bench.report.runs import Runs, Section, Series
from oodkit.bench.spec import BASELINE_LEGEND
from oodkit.bench.store import Scores
from oodkit.errors import ArtifactError
from oodkit.explanation import Number

__all__ = ["as_html"]

KEY = (("d1", "within 0.005"), ("d2", "within 0.02"), ("d3", "within 0.05"), ("d4", "more than 0.05"))
EMPTY = '<td class="none">–</td>'


def as_html(runs: Runs, *, explain: bool = False) -> str:
    """Return the whole page; `explain` adds why the highest-scoring images look strange: it takes longer."""
    body = [_head(runs)]
    for section in runs.sections:
        body.append(f"<h2>{escape(section.title)}</h2>")
        body.append(_about(section))
        body += [
            _table(runs, section, "auroc"),
            _controls(section),
            _sweeps(section),
            _by_option(section),
        ]
        body += [_runtime(section), _cost(section), _roc_curves(runs, section)]
        body += [_details(METRICS[metric], _table(runs, section, metric)) for metric in METRICS if metric != "auroc"]
        body += [_histograms(runs, section), _examples(runs, section)]
        body += [_explanations(runs, section)] if explain else []
    body += [_gaps(runs), _infinite(runs), _unsteady(runs), _missing(runs), _settings(runs)]
    rule = Template(
        ".line.c$i { stroke: var(--c$i); } .fill.c$i { fill: var(--c$i); } i.c$i { background: var(--c$i); }"
    )
    colours = "\n".join(rule.substitute(i=i) for i in range(plots.COLOURS))
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return template.substitute(title=escape(_title(runs)), colours=colours, body="\n".join(filter(None, body)))


# --- text and tables ------------------------------------------------------------------------------------------------


def _title(runs: Runs) -> str:
    return f"OOD detection: {', '.join(dict.fromkeys(section.id for section in runs.sections))}"


def _head(runs: Runs) -> str:
    dates = sorted(cell.date for cell in runs.cells)
    versions = ", ".join(sorted({cell.versions.get("oodkit", "?") for cell in runs.cells}))
    key = "".join(f'<span style="background:var(--{name})">{text}</span>' for name, text in KEY)
    span = dates[0][:10] if dates[0][:10] == dates[-1][:10] else f"{dates[0][:10]} to {dates[-1][:10]}"
    damaged = f" {runs.damaged} rows could not be read." if runs.damaged else ""
    baseline = f"<p>{escape(BASELINE_LEGEND)}</p>" if runs.show_baseline else ""
    return (
        f"<h1>{escape(_title(runs))}</h1>"
        f'<p class="soft">{len(runs.cells):,} cells, made {escape(span)} (UTC) on {escape(_devices(runs.cells))}, '
        f"oodkit {escape(versions)}; report of oodkit {__version__}.{damaged}</p>"
        "<p>AUROC: the probability that an OOD image scores higher than an ID image; 1 is best, 0.5 is chance. Each "
        "figure is the mean over seeds ± its standard deviation. Below it stand the paper’s figure (Choi et al. 2021) "
        "and the difference. <em>Worst</em> is the worst OOD set of each seed; (2 of 3): the others have no figure.</p>"
        f'{baseline}<p>Difference from the paper: <span class="key">{key}</span></p>'
    )


def _about(section: Section) -> str:
    cells = [cell for one in section.series for found in one.cells.values() for cell in found]
    seeds = sorted({cell.seed for cell in cells})
    tests = sorted({cell.n_id for cell in cells})
    train = sorted({cell.sets["train"]["count"] for cell in cells})
    files = sorted({cell.model_file for cell in cells if cell.model_file})
    text = f"Seeds {_listed(seeds)}; {_listed(tests)} ID test images; {_listed(train)} training images."
    if files:
        text += f" Models from {', '.join(Path(file).name for file in files)}."
    return f'<p class="soft">{escape(text)}</p>'


def _listed(values: Sequence[int]) -> str:
    if len(values) > 3:
        return f"{values[0]:,} to {values[-1]:,}"
    return ", ".join(f"{value:,}" for value in values)


def _table(runs: Runs, section: Section, metric: str) -> str:
    sets = section.sets
    if not any(ood in one.cells for one in section.series for ood in sets):
        return ""
    mixed = any(OVERALL in one.cells for one in section.series)
    columns = [*sets, *([OVERALL] if mixed else [])]
    head = "".join(f"<th>{escape(name)}</th>" for name in (METRICS[metric], *columns, "mean", "worst"))
    rows = []
    for one in section.series:
        if not any(ood in one.cells for ood in columns):
            continue
        cells = [_cell(runs, one, ood, metric) for ood in columns]
        over = one.over(section.run_sets, metric)
        cells += [f'<td class="sum">{over[name]}</td>' if over else EMPTY for name in ("mean", "worst")]
        rows.append(f"<tr><td>{escape(one.label)}</td>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _cell(runs: Runs, one: Series, ood: str, metric: str) -> str:
    figure, paper = one.figure(ood, metric), one.paper(ood, metric)
    printed = f"paper {paper.value:.3f}" if paper else ""
    if figure is None:
        if not printed and ood not in runs.missing:
            return EMPTY
        return f'<td class="none">{"no data" if ood in runs.missing else "not run"}<small>{printed}</small></td>'
    if paper is None:
        return f"<td>{figure}</td>"
    difference = figure.mean - paper.value
    title = f"Table {paper.table}"
    return (
        f'<td class="{_size(difference)}" title="{title}">{figure}<small>{printed}, {signed(difference)}</small></td>'
    )


def _size(difference: float) -> str:
    # rounded, as the figures are: 0.980 against 1.000 is within 0.02
    size = round(abs(difference), 3)
    return "d1" if size <= 0.005 else "d2" if size <= 0.02 else "d3" if size <= 0.05 else "d4"


def _legend(shown: Sequence[Series]) -> str:
    names = "".join(f'<span><i class="c{i}"></i>{escape(one.label)}</span>' for i, one in enumerate(shown))
    return f'<p class="legend soft">{names}</p>'


def _controls(section: Section) -> str:
    if not section.controls:
        return ""
    head = "".join(f"<th>{escape(ood)}</th>" for ood in section.controls)
    rows = "".join(
        f"<tr><td>{escape(one.label)}</td>{''.join(_plain(one.figure(ood, 'auroc')) for ood in section.controls)}</tr>"
        for one in section.series
        if any(ood in one.cells for ood in section.controls)
    )
    return (
        "<h3>What preparation alone does</h3><p>The ID test images, taken through the other set’s resize chain "
        "(<em>recompressed</em>: and its JPEG compression), against the ID test images: 0.5 says that the detector "
        "does not see it.</p>"
        f'<div class="scroll"><table><thead><tr><th>AUROC</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _plain(figure: Figure | None) -> str:
    return EMPTY if figure is None else f"<td>{figure}</td>"


def _sweeps(section: Section) -> str:
    parts = []
    for one in swept(section):
        head = "".join(f"<th>×{text}</th>" for text in one.factors)
        rows = "".join(_sweep_row(line) for line in one.lines)
        parts.append(
            f"<h3>{escape(one.base)} at other brightness, AUROC</h3>"
            f'<div class="scroll"><table><thead><tr><th>AUROC</th>{head}<th>mean</th><th>deviation</th></tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )
    return "".join(parts)


def _sweep_row(line: Swept.Line) -> str:
    cells = []
    for value, paper in zip(line.values, line.paper, strict=True):
        if value is None:
            cells.append(EMPTY)
        elif paper is None:
            cells.append(f"<td>{value:.3f}</td>")
        else:
            note = f"<small>paper {paper:.3f}, {signed(value - paper)}</small>"
            cells.append(f'<td class="{_size(value - paper)}">{value:.3f}{note}</td>')
    for value, paper in ((line.mean, line.paper_mean), (line.deviation, line.paper_deviation)):
        note = "" if paper is None else f"<small>paper {paper:.3f}, {signed(value - paper)}</small>"
        cells.append(f'<td class="sum">{value:.3f}{note}</td>')
    return f"<tr><td>{escape(line.label)}</td>{''.join(cells)}</tr>"


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>" if content else ""


# --- plots ------------------------------------------------------------------------------------------------------------


def _plots(made: Iterable[str]) -> str:
    content = "".join(made)
    return f'<div class="plots">{content}</div>' if content else ""


def _by_option(section: Section) -> str:
    parts = []
    for group in option_groups(section):
        drawn = _plots(plots.boxes(ood, values) for ood, values in group.by_set.items())
        parts.append(f"<h3>{escape(group.detector)} by {escape(group.option)}</h3>{drawn}")
    return "".join(parts)


def _runtime(section: Section) -> str:
    points = []
    shown = section.series[: plots.COLOURS]
    for i, one in enumerate(shown):
        over, speed = one.over(section.run_sets, "auroc"), one.images_per_second
        if over and not over["mean"].partial and speed:
            points.append((i, one.label, speed, over["mean"].mean))
    if len(points) < 2:
        return ""
    drawn = _plots([plots.runtime("mean AUROC over the OOD sets of each detector", points)])
    return f"<h3>Speed of scoring and AUROC</h3>{_legend(shown)}{drawn}"


def _cost(section: Section) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.label)}</td>"
        f"{EMPTY if one.images_per_second is None else f'<td>{speed_text(one.images_per_second)}</td>'}"
        f"{_spread(one.batch_spread)}</tr>"
        for one in section.series
    )
    head = "<th>detector</th><th>images/s</th><th>spread over batch sizes</th>"
    return (
        f"<h3>Speed, and spread over batch sizes</h3><p>{SPREAD}</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _spread(value: float | None) -> str:
    if value is None:
        return EMPTY
    return f"<td{' class=d4' if value > UNSTEADY else ''}>{value:.2g}</td>"


def _pairs(runs: Runs, one: Series, ood: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the scores of ID and OOD images of the first seed, where they are kept."""
    if ood not in one.cells:
        return None
    hashes = one.cells[ood][0].hashes
    known, other = runs.scores(hashes.get("id_scores", "")), runs.scores(hashes.get("ood_scores", ""))
    return None if known is None or other is None else (known.values.double().numpy(), other.values.double().numpy())


def _roc_curves(runs: Runs, section: Section) -> str:
    made = []
    shown = section.series[: plots.COLOURS]
    for ood in section.sets:
        pairs = [(i, pair) for i, one in enumerate(shown) if (pair := _pairs(runs, one, ood)) is not None]
        if pairs:
            made.append(plots.roc(ood, [(i, *pair) for i, pair in pairs]))
    return f"<h3>ROC curves, first seed</h3>{_legend(shown)}{_plots(made)}" if made else ""


def _histograms(runs: Runs, section: Section) -> str:
    parts = []
    for one in section.series:
        pairs = [(ood, pair) for ood in section.sets if (pair := _pairs(runs, one, ood)) is not None]
        drawn = _plots(plots.histogram(ood, *pair) for ood, pair in pairs)
        parts.append(f"<h3>{escape(one.label)}</h3>{drawn}" if drawn else "")
    key = '<p class="legend"><span><i class="c0"></i>ID test images</span><span><i class="c1"></i>OOD images</span></p>'
    return _details("Scores, first seed", key + "".join(parts)) if any(parts) else ""


def _examples(runs: Runs, section: Section) -> str:
    parts = []
    below = False
    for one in section.series:
        rows: list[tuple[str, Scores]] = []
        for ood in [o for o in one.cells if o in section.sets]:
            hashes = one.cells[ood][0].hashes
            if not rows and (known := runs.scores(hashes.get("id_scores", ""))) is not None:
                rows.append((section.id, known))
            if (other := runs.scores(hashes.get("ood_scores", ""))) is not None:
                rows.append((ood, other))
        lines = "".join(
            f'<tr class="strip"><td>{escape(name)}</td>'
            f"<td>{_strip(found.lowest, found.lowest_reconstructed)}</td>"
            f"<td>{_strip(found.highest, found.highest_reconstructed)}</td></tr>"
            for name, found in rows
        )
        below = below or any(found.highest_reconstructed is not None for _, found in rows)
        head = "<tr><th>images</th><th>lowest scores</th><th>highest scores</th></tr>"
        if lines:
            parts.append(f"<h3>{escape(one.label)}</h3><table><thead>{head}</thead><tbody>{lines}</tbody></table>")
    note = "<p class='soft'>Below each image stands its model's reconstruction of it.</p>" if below else ""
    return _details("Images with the lowest and the highest scores, first seed", "".join([note, *parts]))


def _strip(images: Tensor, below: Tensor | None) -> str:
    """Return uint8 images (n, C, H, W) side by side, others below them."""
    rows = [images] if below is None else [images, below]
    lines = [np.concatenate(list(row.permute(0, 2, 3, 1).numpy()), axis=1) for row in rows]
    joined = np.concatenate(lines)  # (H or 2·H, n·W, C)
    return _picture(Image.fromarray(joined[..., 0] if joined.shape[2] == 1 else joined), height=40 * len(lines))


def _picture(picture: Image.Image, height: int) -> str:
    """Return a picture within the page."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="" style="height: {height}px" src="data:image/png;base64,{data}">'


def _explanations(runs: Runs, section: Section) -> str:
    parts, remarks = [], []
    for one in section.series:
        lines = []
        try:
            for ood, images in explained(runs, one, section.sets):
                cells = "".join(f"<td>{_picture(i.picture, SIDE)}</td><td>{_numbers(i.numbers)}</td>" for i in images)
                lines.append(f'<tr class="strip"><td>{escape(ood)}</td>{cells}</tr>')
        except ArtifactError as error:
            remarks.append(f"<p class='soft'>{escape(one.label)}: {escape(str(error))}</p>")
        if lines:
            table = f"<table><tbody>{''.join(lines)}</tbody></table>"
            parts.append(f'<h3>{escape(one.label)}</h3><div class="scroll">{table}</div>')
    note = (
        "<p>The highest-scoring images of each set, and a map: red raises the score, blue lowers it. Beside "
        "it the numbers behind the score that matter most, each with its distance from its mean over in-distribution "
        "images in standard deviations and, where the score is a sum, its share.</p>"
    )
    summary = "Why the images with the highest scores look strange, first seed"
    return _details(summary, "".join([note, *parts, *remarks]) if parts or remarks else "")


def _numbers(numbers: Sequence[Number]) -> str:
    rows = "".join(
        f"<tr><td>{escape(n.name)}</td><td>{n.z:+,.1f}</td>{'' if n.share is None else f'<td>{n.share:.0%}</td>'}</tr>"
        for n in numbers
    )
    return f'<table class="numbers"><tbody>{rows}</tbody></table>'


# --- what was run -----------------------------------------------------------------------------------------------------


def _gaps(runs: Runs) -> str:
    found: list[Gap] = gaps(runs)
    compared = len(differences(runs))
    if not compared:
        return ""
    rows = "".join(
        f"<tr><td>{escape(gap.section)}</td><td class='text'>{escape(gap.series)}</td>"
        f"<td class='text'>{escape(gap.ood)}</td>"
        f"<td>{gap.ours:.3f}</td><td>{gap.paper:.3f}</td><td>{signed(gap.ours - gap.paper)}</td>"
        f"<td>{gap.table}</td></tr>"
        for gap in found
    )
    names = ("model", "detector", "OOD set")
    head = "".join(f"<th class='text'>{t}</th>" for t in names) + "".join(
        f"<th>{t}</th>" for t in ("ours", "paper", "difference", "table")
    )
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    within = f"{compared - len(found)} of {compared} AUROCs are within 0.02 of the paper’s"
    return f"<h2>Beside the paper</h2><p>{within}{'; the others:' if found else '.'}</p>{table if found else ''}"


def _infinite(runs: Runs) -> str:
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in not_finite(runs.cells))
    return sentences and f"<h2>Infinite scores</h2>{sentences}"


def _unsteady(runs: Runs) -> str:
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in unsteady(runs.cells))
    return sentences and f"<h2>Scores that depend on the batch</h2>{sentences}"


def _missing(runs: Runs) -> str:
    if not runs.missing:
        return ""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td class='text'>{escape(why)}</td></tr>" for name, why in runs.missing.items()
    )
    return f"<h2>No data</h2><table><tbody>{rows}</tbody></table>"


def _settings(runs: Runs) -> str:
    models, detectors = [], []
    sets: dict[tuple[str, str], DescribedSet] = {}  # by title and source
    for cell in runs.cells:
        models.append((f"{cell.id}, {cell.model}", _texts(cell.model_options)))
        detectors.append((cell.detector, _texts(cell.options)))
        named = {"training images": cell.sets["train"], "ID test images": cell.sets["id"], cell.ood: cell.sets["ood"]}
        for name, described in named.items():
            if not isinstance(described, list):  # of a mix: labels
                sets[f"{cell.id}: {name}", described["source"]] = described
    versions = sorted(
        {f"{name} {version}" for cell in runs.cells for name, version in cell.versions.items() if version}
    )
    return (
        "<h2>Settings</h2>"
        + _details("Models", _rows([(name, about) for name, about in dict.fromkeys(models) if about]))
        + _details("Detectors", _rows(list(dict.fromkeys(detectors))))
        + _details(
            "Images, and how they were prepared",
            _rows([(title, _prepared(described)) for (title, _), described in sets.items()]),
        )
        + _details(
            "Versions and devices", _rows([("versions", ", ".join(versions)), ("devices", _devices(runs.cells))])
        )
    )


def _texts(options: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items() if name != "seed")


def _devices(cells: list[Cell]) -> str:
    return ", ".join(sorted({cell.device for cell in cells}))


def _prepared(described: DescribedSet) -> str:
    chain = " → ".join(described["steps"]) or "as they are"
    skipped = f"; {described['skipped']} files could not be read" if described["skipped"] else ""
    return f"{described['count']} images; {chain}; from {described['source']}{skipped}"


def _rows(pairs: Sequence[tuple[str, str]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td class='text'><code>{escape(text)}</code></td></tr>" for name, text in pairs
    )
    return f"<table><tbody>{rows}</tbody></table>" if rows else ""
